//! The command line as its user meets it: exit codes, messages, and what is left behind.

#[path = "command_line/answers.rs"]
mod answers;
#[path = "command_line/disturbances.rs"]
mod disturbances;
#[path = "command_line/keys.rs"]
mod keys;
#[path = "command_line/manifests.rs"]
mod manifests;
#[path = "command_line/tampering.rs"]
mod tampering;
mod tiny_image;
