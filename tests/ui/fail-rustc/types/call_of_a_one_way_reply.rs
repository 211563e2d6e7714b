//! A typed call whose reply can only be sent.

use mas::prelude::*;

#[derive(Debug, Serialize)]
struct Receipt {
    pieces: u32,
}

#[agent]
struct Shop;

#[agent]
impl Shop {
    #[on("order")]
    async fn order(&mut self, pieces: u32) -> Receipt {
        Receipt { pieces }
    }
}

fn main() {
    let _ = |shop: ShopRef| {
        let _ = shop.order(3);
    };
}
