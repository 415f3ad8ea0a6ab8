//! A batch is made of events.

use whalewatch_core::Batch;

struct Seen;

fn main() {
    let _batch = Batch::new("geo".into(), vec![Seen]);
}
