//! Types and stubs generated from `idl/` at build time: [`rpc`] is the Thrift service, [`http`] the messages of
//! the HTTP front. Nothing is written by hand here: change the IDL.

include!(concat!(env!("OUT_DIR"), "/volo_gen.rs"));
include!(concat!(env!("OUT_DIR"), "/http_gen.rs"));

pub use http_gen::api as http;
pub use volo_gen::rpc;
