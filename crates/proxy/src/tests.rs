//! The proxy against stand-ins for nodes, sound and hostile; every byte that leaves it is recorded.

mod audited;
mod caller;
mod crowded;
mod guarded;
mod hostile;
mod several;
mod sound;
mod stand_in;
mod wire;
