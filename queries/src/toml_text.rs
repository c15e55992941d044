//! TOML as text: what is a string in it.

/// The quote one is within after some TOML, given the one before it.
pub(crate) fn quote_after(text: &str, mut quote: Option<&'static str>) -> Option<&'static str> {
    const QUOTES: [&str; 4] = ["\"\"\"", "'''", "\"", "'"];
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let mut step = first.len_utf8();
        match quote {
            None if first == '#' => step = rest.find('\n').unwrap_or(rest.len()),
            None => {
                quote = QUOTES.into_iter().find(|quote| rest.starts_with(quote));
                step = quote.map_or(step, str::len);
            }
            Some(open) if rest.starts_with(open) => {
                quote = None;
                step = open.len();
            }
            Some(open) if first == '\\' && open.starts_with('"') => {
                step += rest[step..].chars().next().map_or(0, char::len_utf8);
            }
            // A string of one line ends with it, even if it was not closed.
            Some("\"" | "'") if first == '\n' => quote = None,
            Some(_) => {}
        }
        rest = &rest[step..];
    }
    quote
}
