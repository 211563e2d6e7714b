//! A typed call whose payload can only be received.

use mas::prelude::*;

#[derive(Debug, Deserialize)]
struct Order {
    pieces: u32,
}

#[agent]
struct Shop;

#[agent]
impl Shop {
    #[on("order")]
    async fn order(&mut self, order: Order) -> u32 {
        order.pieces
    }
}

fn main() {
    let _ = |shop: ShopRef| {
        let _ = shop.order(Order { pieces: 3 });
    };
}
