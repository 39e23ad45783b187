//! The simulator: the daemon that ships, with its stager, machine, policy, documents and
//! signatures, on a node, in a network and under a clock that exist only in memory.
//!
//! In: a seed. Out: a run, and what was broken in it. **Invariant:** nothing of the daemon is
//! rebuilt here, and a seed replays the same run.

mod channel;
mod daemon;
mod end;
mod ledger;
mod release;
mod script;
mod tests;
mod world;
