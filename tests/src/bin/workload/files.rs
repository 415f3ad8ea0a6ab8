//! Opens, changes, reads and writes files.

use std::error::Error;

use serde_json::json;

use crate::Told;

pub(crate) fn run(arguments: &[String]) -> Told {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["open-close", path, count] => open_close(path, count.parse()?),
        _ => Err("files open-close PATH COUNT".into()),
    }
}

/// Opens and closes a file so often.
fn open_close(path: &str, count: u64) -> Told {
    for _ in 0..count {
        drop(std::fs::File::open(path).map_err(Box::<dyn Error>::from)?);
    }
    Ok(json!({"opens": count}))
}
