"""The architectures of another package, which `tests.conftest` installs: no torch before a network is built."""

from unetr_nnunet.architectures.architecture import Architecture


def _pyramid(in_channels, out_channels, patch_size, spacing_mm, width):
    from torch import nn
    from torch.nn import functional

    flat = len(patch_size) == 2
    convolution, norm = (nn.Conv2d, nn.InstanceNorm2d) if flat else (nn.Conv3d, nn.InstanceNorm3d)

    class Pyramid(nn.Module):
        """Two scales with logits each, the coarse ones refined by the fine ones."""

        def __init__(self):
            super().__init__()
            self.deep_supervision = False
            self.fine = nn.Sequential(
                convolution(in_channels, width, 3, padding=1), norm(width, affine=True), nn.LeakyReLU(inplace=True)
            )
            self.coarse = nn.Sequential(
                convolution(width, 2 * width, 3, 2, 1), norm(2 * width, affine=True), nn.LeakyReLU(inplace=True)
            )
            self.coarse_logits = convolution(2 * width, out_channels, 1)
            self.fine_logits = convolution(width, out_channels, 1)

        def forward(self, image):
            fine = self.fine(image)
            coarse = self.coarse_logits(self.coarse(fine))
            logits = self.fine_logits(fine) + functional.interpolate(coarse, image.shape[2:])
            return [logits, coarse] if self.deep_supervision else logits

    return Pyramid()


def _scales(patch_size, spacing_mm, width):
    return [[1.0] * len(patch_size), [0.5] * len(patch_size)]


def _even(spacing_mm):
    return (2,) * len(spacing_mm)


PYRAMID = Architecture(
    name="Pyramid",
    build=_pyramid,
    patch_multiple=_even,
    sizes={"base": {"width": 12}, "Slim": {"width": 4}},
    reference="Other et al., 2026",
    summary="two scales",
    output_scales=_scales,
)


def _line(in_channels, out_channels, patch_size, spacing_mm):
    from torch import nn

    return nn.Sequential(nn.Conv3d(in_channels, 8, 3, padding=1), nn.ReLU(), nn.Conv3d(8, out_channels, 3, padding=1))


LINE = Architecture(
    name="Line",
    build=_line,
    patch_multiple=lambda spacing_mm: (8, 16, 16),
    sizes={"base": {}},
    reference="Other et al., 2026",
    dimensions=(3,),
)


def _opaque(in_channels, out_channels, patch_size, spacing_mm):
    import numpy as np
    from torch import nn

    class Opaque(nn.Module):
        """Leaves torch on its way, as custom kernels do, which tensors without data cannot follow."""

        def __init__(self):
            super().__init__()
            self.line = _line(in_channels, out_channels, patch_size, spacing_mm)

        def forward(self, image):
            return self.line(image * float(np.mean(image.detach().numpy()) >= -1e9))

    return Opaque()


OPAQUE = Architecture(
    name="Opaque",
    build=_opaque,
    patch_multiple=lambda spacing_mm: (1,) * len(spacing_mm),
    sizes={"base": {}},
    reference="Other et al., 2026",
    dimensions=(3,),
)
