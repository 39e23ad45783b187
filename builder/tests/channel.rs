//! Channels: what a node's client takes and refuses, and what a crash leaves behind.

#[path = "channel/attacks.rs"]
mod attacks;
#[path = "channel/commands.rs"]
mod commands;
#[path = "channel/crashes.rs"]
mod crashes;
#[path = "channel/fixture.rs"]
mod fixture;
#[path = "channel/marking.rs"]
mod marking;
#[path = "channel/pruning.rs"]
mod pruning;
#[path = "channel/publishing.rs"]
mod publishing;
#[path = "channel/rotation.rs"]
mod rotation;
