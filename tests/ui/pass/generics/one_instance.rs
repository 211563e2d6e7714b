//! Handlers for some instances of a generic struct only.

use mas::prelude::*;
use mas::private::{Agent, Call};

#[agent]
struct Sum<T, const N: usize>([T; N]);

#[agent]
impl Sum<u8, 3> {
    #[on("sum")]
    async fn sum(&self) -> u8 {
        self.0.iter().sum()
    }
}

#[agent]
impl Sum<f32, 2> {
    #[on("mean")]
    async fn mean(&self) -> f32 {
        self.0.iter().sum::<f32>() / 2.0
    }
}

fn main() {
    assert_eq!(Sum::<u8, 3>::HANDLERS.len(), Sum::<f32, 2>::HANDLERS.len());
    let _: fn(&SumRef<u8, 3>) -> Call<u8> = SumRef::sum;
    let _: fn(&SumRef<f32, 2>) -> Call<f32> = SumRef::mean;
    let _ = (Sum([1_u8; 3]), Sum([1.0_f32; 2]));
}
