//! Programs of this workspace.
