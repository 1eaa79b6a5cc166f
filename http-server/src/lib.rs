//! The HTTP front (contract, section 3): JSON, form, URL or protobuf parameters in, a Thrift call, JSON or protobuf
//! out.
//!
//! A request's way: [`server`] (connections, deadlines, limits) -> [`layers`] (around every request) -> [`routes`]
//! (which handler) -> [`params`] (what was asked) -> an [`ImService`](volo_gen::rpc::ImService), in the same process
//! or behind the [`rpc_client`] -> [`answer`]. Whatever goes wrong on it is an [`error::ApiError`].
//!
//! Nothing here knows a store, a room or what a valid message is: the service says.

pub mod answer;
mod balance;
pub mod discovery;
pub mod error;
pub mod layers;
pub mod options;
pub mod params;
pub mod routes;
pub mod rpc_client;
pub mod server;
