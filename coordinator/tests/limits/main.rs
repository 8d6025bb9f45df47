//! What a peer may do to a coordinator, over real sockets: how many connections, how slow, how
//! large, how often; and how the coordinator stops.
//!
//! Invariant: nothing here waits for luck. A test waits for what it expects to happen, and only a
//! hang (a minute) fails it; how long something took is never compared.

mod connections;
mod messages;
mod slow;
mod stopping;
mod support;
