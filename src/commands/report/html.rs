//! Text and numbers in HTML and SVG.

use skimjit_host::{octets, printable};

/// Text with the characters that mean something in HTML replaced; control characters become spaces.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            '\'' => safe += "&#39;",
            c if c.is_control() => safe.push(' '),
            c if octets::byte(c).is_some() => {
                safe.push_str(&printable::cell(c.encode_utf8(&mut [0; 4])));
            }
            c => safe.push(c),
        }
    }
    safe
}

/// What a variant is: the class that gives it its colour.
pub fn class(variant: &str) -> &'static str {
    match variant {
        "view" | "fused" => "idle",
        "reference" => "slow",
        variant if skimjit::layer::is_sparse(variant) => "sparse",
        variant if skimjit::layer::is_dense(variant) => "dense",
        _ => "other",
    }
}

/// Milliseconds with three digits that count.
pub fn ms(value: f64) -> String {
    let digits = match value {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        v if v >= 0.1 => 3,
        _ => 4,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_make_tags() {
        assert_eq!(
            escape("<script>alert('a' & \"b\")\n"),
            "&lt;script&gt;alert(&#39;a&#39; &amp; &quot;b&quot;) "
        );
    }
}
