//! The messaging service: it validates, normalises, stores and pages messages, and serves them over Thrift.
//!
//! A call's way: [`server`] (a connection) -> [`connection`] (its calls, run and answered in order; their bytes read
//! and written by [`wire`]) -> [`service`] (the request into the domain's
//! types, the answer out of them) -> [`store`] (Redis or embedded). The domain stands apart, without IO or framework:
//! [`chat`], [`message`], [`page`].
//!
//! Nothing here knows HTTP, and nothing below calls back up.

pub mod chat;
pub mod connection;
pub mod message;
pub mod options;
pub mod page;
pub mod server;
pub mod service;
pub mod store;
pub mod wire;
