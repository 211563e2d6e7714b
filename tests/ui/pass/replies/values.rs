//! A reply is nothing, a value, or a `Result` of one, whatever error it has; the typed call gives the value.

use mas::prelude::*;
use mas::private::Call;

type Outcome = std::result::Result<u8, std::num::ParseIntError>;

#[derive(Debug)]
struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken")
    }
}

impl std::error::Error for Broken {}

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("nothing")]
    async fn nothing(&self) {}
    #[on("unit")]
    async fn unit(&self) -> () {}
    #[on("value")]
    async fn value(&self) -> Vec<(u8, String)> {
        Vec::new()
    }
    #[on("ours")]
    async fn ours(&self) -> Result<u8> {
        Ok(u8::try_from(300)?)
    }
    #[on("theirs")]
    async fn theirs(&self) -> std::result::Result<u8, Broken> {
        Err(Broken)
    }
    #[on("text")]
    async fn text(&self) -> std::result::Result<u8, &'static str> {
        Err("no")
    }
    #[on("boxed")]
    async fn boxed(&self) -> Result<u8, Box<dyn std::error::Error + Send + Sync>> {
        Err("no".into())
    }
    #[on("io")]
    async fn io(&self) -> std::io::Result<u8> {
        Ok(1)
    }
    #[on("format")]
    async fn format(&self) -> std::fmt::Result {
        Ok(())
    }
    #[on("failure")]
    async fn failure(&self) -> Result<(), Failure> {
        Ok(())
    }
}

fn main() {
    let _: [fn(&WorkerRef) -> Call<()>; 4] = [
        WorkerRef::nothing,
        WorkerRef::unit,
        WorkerRef::format,
        WorkerRef::failure,
    ];
    let _: fn(&WorkerRef) -> Call<Vec<(u8, String)>> = WorkerRef::value;
    let _: [fn(&WorkerRef) -> Call<u8>; 5] = [
        WorkerRef::ours,
        WorkerRef::theirs,
        WorkerRef::text,
        WorkerRef::boxed,
        WorkerRef::io,
    ];
    let _: Outcome = "7".parse();
}
