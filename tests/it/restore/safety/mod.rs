//! Restores that can be trusted, seen from outside: killed at any moment, pointed at the wrong
//! target, redacted, rehearsed.

mod fault_proxy;
mod kills;
mod redaction;
mod rehearsal;
mod wrong_target;
