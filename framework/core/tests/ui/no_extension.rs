//! What is added to events has fields.

use whalewatch_core::Batch;

struct Country;

fn add(batch: &mut Batch) {
    batch.extend(|_| Some(Country));
}

fn main() {
    let _ = add;
}
