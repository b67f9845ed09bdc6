from unetr_nnunet.architectures.architecture import Architecture


def build(in_channels, out_channels, patch_size, spacing_mm, width):
    from mynet.network import MyNet

    return MyNet(in_channels, out_channels, width)


MYNET = Architecture(
    name="MyNet",
    build=build,
    patch_multiple=lambda spacing_mm: (2, 2, 2),
    sizes={"base": {"width": 32}, "Small": {"width": 8}},
    reference="Me et al., 2026",
    dimensions=(3,),
)
