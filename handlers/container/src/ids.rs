//! Ids of containers.

/// containerd's namespace of the containers that Docker made. Docker's own client reports them.
pub(crate) const DOCKER_NAMESPACE: &str = "moby";

/// Whether an id is 64 hexadecimal digits in lower case, the form that Docker, podman, CRI-O and
/// containerd's CRI plugin generate. Such an id is unique on every host; any other is unique only
/// within its runtime or namespace.
pub(crate) fn is_full_id(text: &str) -> bool {
    text.len() == 64 && is_hex(text)
}

/// Whether a text is all hexadecimal digits in lower case.
pub(crate) fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_64_lower_case_hexadecimal_digits_are_a_full_id() {
        assert!(is_full_id(&"0a".repeat(32)));
        for other in ["0A".repeat(32), "0a".repeat(31), "0a".repeat(33), "0g".repeat(32)] {
            assert!(!is_full_id(&other), "{other}");
        }
    }
}
