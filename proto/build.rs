//! Generates the wire code without a `protoc` on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["v1/words", "v1/fleet", "v1/admin", "store/v1/store"]
        .map(|name| format!("proto/orchestra/{name}.proto"));
    for file in &files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(&files, ["proto"])?;
    tonic_prost_build::configure()
        .bytes(".orchestra.v1.UploadChunk.data")
        .bytes(".orchestra.v1.DownloadChunk.data")
        .bytes(".orchestra.v1.BackupChunk.data")
        .btree_map(".")
        // The head has room for some messages of each worker's stream: this one is long and rare.
        .boxed(".orchestra.v1.HeadMessage.body.welcome")
        // Their events stay bytes: see `batch`.
        .extern_path(".orchestra.v1.EventUpload", "crate::batch::EventUpload")
        .extern_path(".orchestra.v1.EventBatch", "crate::batch::EventBatch")
        .compile_fds(descriptors)?;
    Ok(())
}
