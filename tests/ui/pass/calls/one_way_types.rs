//! A payload that is only `Deserialize` and a reply that is only `Serialize` are fine: there is just no typed call.

use mas::prelude::*;
use mas::private::{Agent, HandlerSpec};

#[derive(Deserialize)]
struct Order {
    pieces: u32,
}

#[derive(Serialize)]
struct Receipt {
    pieces: u32,
}

#[agent]
struct Shop;

#[agent]
impl Shop {
    #[on("order")]
    async fn order(&mut self, order: Order) -> Receipt {
        Receipt {
            pieces: order.pieces,
        }
    }

    #[on("orders")]
    fn orders(&self, order: Order) -> impl Stream<Item = Receipt> {
        futures_util::stream::iter([Receipt {
            pieces: order.pieces,
        }])
    }
}

fn main() {
    assert_eq!(
        Shop::HANDLERS,
        [
            HandlerSpec::exclusive(0, "order"),
            HandlerSpec::shared(1, "orders").streams()
        ]
    );
}
