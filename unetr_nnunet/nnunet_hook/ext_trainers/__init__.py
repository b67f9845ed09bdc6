"""The folder that ``nnUNet_extTrainer`` points at; nnU-Net imports every module in it as a top-level one."""
