//! Runs node images in QEMU.
