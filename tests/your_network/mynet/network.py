from torch import nn


class MyNet(nn.Module):
    def __init__(self, in_channels, out_channels, width):
        super().__init__()
        self.down = nn.Conv3d(in_channels, width, kernel_size=2, stride=2)
        self.body = nn.Sequential(nn.Conv3d(width, width, 3, padding=1), nn.InstanceNorm3d(width), nn.GELU())
        self.up = nn.ConvTranspose3d(width, out_channels, kernel_size=2, stride=2)

    def forward(self, image):  # (B, C, Z, Y, X) to (B, K, Z, Y, X)
        return self.up(self.body(self.down(image)))
