//! Generates the Thrift service and the protobuf messages from `idl/` into `OUT_DIR`.

use std::{env, path::PathBuf};

use pilota_build::{IdlService, Output};

fn main() {
    volo_build::Builder::thrift().add_service("../idl/idl_rpc.thrift").write().expect("idl/idl_rpc.thrift");

    let out_dir = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    pilota_build::Builder::pb()
        .ignore_unused(false) // there is no service in it that would use the messages
        .include_dirs(vec!["../idl".into()])
        .compile_with_config(
            vec![IdlService::from_path("../idl/idl_http.proto".into())],
            Output::File(out_dir.join("http_gen.rs")),
        );
    println!("cargo:rerun-if-changed=../idl");
}
