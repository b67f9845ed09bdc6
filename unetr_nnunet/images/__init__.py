"""Every way a voxel gets in or out: NIfTI, NRRD, MetaImage, DICOM, grids, orientation, label maps. No torch."""
