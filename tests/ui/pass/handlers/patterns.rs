//! A payload may be taken apart in the parameter; the typed call keeps a parameter's name where it has one.

#![deny(warnings)]

use mas::prelude::*;
use mas::private::Call;

#[derive(Serialize, Deserialize)]
struct Point {
    x: u32,
    y: u32,
}

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("sum")]
    async fn sum(&self, Point { x, y }: Point) -> u32 {
        x + y
    }

    #[on("pair")]
    async fn pair(&self, (left, right): (u32, u32)) -> u32 {
        left + right
    }

    #[on("own")]
    async fn own(&self, mut point: Point) -> u32 {
        point.x += 1;
        point.x
    }

    #[on("ignored")]
    async fn ignored(&self, _: Point) {}

    #[on("raw")]
    async fn r#type(&self, r#match: Point) -> u32 {
        r#match.y
    }
}

fn main() {
    let _: fn(&WorkerRef, Point) -> Call<u32> = WorkerRef::sum;
    let _: fn(&WorkerRef, (u32, u32)) -> Call<u32> = WorkerRef::pair;
    let _: fn(&WorkerRef, Point) -> Call<u32> = WorkerRef::own;
    let _: fn(&WorkerRef, Point) -> Call<()> = WorkerRef::ignored;
    let _: fn(&WorkerRef, Point) -> Call<u32> = WorkerRef::r#type;
    let _ = Worker;
}
