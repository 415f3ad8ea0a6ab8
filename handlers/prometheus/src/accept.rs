//! Chooses the text format of an answer.

/// A text format for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// The text format of Prometheus, version 0.0.4.
    Text,
    /// `OpenMetrics`, version 1.0.0.
    OpenMetrics,
}

impl Format {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Chooses a format from the `Accept` headers: `OpenMetrics` if it is listed and not ranked below
/// plain text, otherwise text.
pub(crate) fn negotiate<'a>(accept: impl Iterator<Item = &'a str>) -> Format {
    let (mut open, mut text, mut any) = (0.0, None, 0.0_f32);
    for part in accept.flat_map(|header| header.split(',')) {
        let mut pieces = part.split(';').map(str::trim);
        let kind = pieces.next().unwrap_or("").to_ascii_lowercase();
        let (mut quality, mut version) = (1.0_f32, None);
        for piece in pieces {
            match piece.split_once('=') {
                Some(("q" | "Q", value)) => quality = value.trim().parse().unwrap_or(0.0),
                Some(("version", value)) => version = Some(value.trim_matches('"')),
                _ => {}
            }
        }
        match &*kind {
            "application/openmetrics-text" if version.is_none_or(|v| v == "1.0.0") => {
                open = quality.max(open);
            }
            "text/plain" => text = Some(quality.max(text.unwrap_or(0.0))),
            "*/*" | "text/*" => any = quality.max(any),
            _ => {}
        }
    }
    if open > 0.0 && open >= text.unwrap_or(any) { Format::OpenMetrics } else { Format::Text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_served_only_to_clients_that_prefer_it() {
        for (accept, want) in [
            (&[][..], Format::Text),
            (&["*/*"], Format::Text),
            (&["text/html,application/xhtml+xml,*/*;q=0.8"], Format::Text),
            (&["application/openmetrics-text; version=1.0.0"], Format::OpenMetrics),
            (&["application/openmetrics-text"], Format::OpenMetrics),
            (&["application/openmetrics-text;version=2.0.0,text/plain;q=0.1"], Format::Text),
            (&["application/openmetrics-text;version=0.0.1,*/*;q=0.1"], Format::Text),
            (&["application/openmetrics-text;version=1.0.0;q=0"], Format::Text),
            (&["application/openmetrics-text;q=0.3, text/plain;version=0.0.4;q=0.5"], Format::Text),
            (
                &[
                    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                ],
                Format::OpenMetrics,
            ),
            (
                &["application/openmetrics-text;version=1.0.0;q=0.6", "text/plain;q=0.5,*/*;q=0.4"],
                Format::OpenMetrics,
            ),
            (&["text/plain;version=0.0.4"], Format::Text),
            (&[",;=;q=,q"], Format::Text),
        ] {
            assert_eq!(negotiate(accept.iter().copied()), want, "{accept:?}");
        }
    }
}
