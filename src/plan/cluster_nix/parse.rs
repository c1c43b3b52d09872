//! Reads a cluster.nix back: the value that NICO writes and nothing more of the Nix language, in any layout.
//!
//! The text may have been edited by hand, so any input has an answer: the depth is bounded by the grammar, each step moves
//! forward, and what Nix might read in another way than this is refused. A refused text is a difference that NICO mends.

use super::{NixNode, Values};
use crate::api::names::ClusterId;
use crate::api::spec::Endpoint;

/// The values that a cluster.nix holds; `None` where it is anything but one attribute set of exactly NICO's attributes.
#[must_use]
pub fn parse(text: &str) -> Option<Values> {
    // Nix's own answer to NUL differs from place to place and from release to release; NICO never writes it.
    (!text.contains('\0')).then_some(())?;
    let mut reader = Reader { rest: text };
    let mut name = None;
    let mut id = None;
    let mut bootstrap = None;
    let mut join = None;
    let mut endpoint = None;
    let mut control_plane = None;
    let mut workers = None;
    reader.attributes(|reader, attribute| match attribute {
        "name" => once(&mut name, reader.string()?),
        "id" => once(&mut id, ClusterId::parse(&reader.string()?)?),
        "bootstrap" => {
            let value = if reader.null() {
                None
            } else {
                Some(reader.string()?)
            };
            once(&mut bootstrap, value)
        }
        "join" => {
            let value = if reader.null() {
                None
            } else {
                Some(reader.node()?)
            };
            once(&mut join, value)
        }
        "endpoint" => {
            let value = if reader.null() {
                None
            } else {
                Some(reader.endpoint()?)
            };
            once(&mut endpoint, value)
        }
        "controlPlane" => once(&mut control_plane, reader.nodes()?),
        "workers" => once(&mut workers, reader.nodes()?),
        _ => None,
    })?;
    reader.skip();
    reader.rest.is_empty().then_some(())?;
    Some(Values {
        name: name?,
        id: id?,
        bootstrap: bootstrap?,
        join: join?,
        endpoint: endpoint?,
        control_plane: control_plane?,
        workers: workers?,
    })
}

/// Fills a field; an attribute that stands twice is an error in Nix, too.
fn once<T>(field: &mut Option<T>, value: T) -> Option<()> {
    field.replace(value).is_none().then_some(())
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    /// White space and `#` comments, which end at a carriage return as well.
    fn skip(&mut self) {
        loop {
            self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
            let Some(comment) = self.rest.strip_prefix('#') else {
                return;
            };
            self.rest = comment.trim_start_matches(|c| c != '\r' && c != '\n');
        }
    }

    fn eat(&mut self, token: char) -> Option<()> {
        self.skip();
        self.rest = self.rest.strip_prefix(token)?;
        Some(())
    }

    /// The longest run of characters that `belongs`.
    fn run(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len());
        let (run, rest) = self.rest.split_at(end);
        self.rest = rest;
        run
    }

    /// An identifier, whole; no attribute of ours begins with a digit or a dash, which other tokens do.
    fn word(&mut self) -> &'a str {
        self.skip();
        self.run(|c| c.is_ascii_alphanumeric() || "_-'".contains(c))
    }

    /// `{ name = value; … }`, where `value` reads the value of the attribute it is told.
    fn attributes(&mut self, mut value: impl FnMut(&mut Self, &str) -> Option<()>) -> Option<()> {
        self.eat('{')?;
        while self.eat('}').is_none() {
            let attribute = self.word();
            self.eat('=')?;
            value(self, attribute)?;
            self.eat(';')?;
        }
        Some(())
    }

    /// Whether the value is `null`, which is then read.
    fn null(&mut self) -> bool {
        let before = self.rest;
        let null = self.word() == "null";
        if !null {
            self.rest = before;
        }
        null
    }

    fn nodes(&mut self) -> Option<Vec<NixNode>> {
        self.eat('[')?;
        let mut nodes = Vec::new();
        while self.eat(']').is_none() {
            nodes.push(self.node()?);
        }
        Some(nodes)
    }

    fn node(&mut self) -> Option<NixNode> {
        let mut name = None;
        let mut ip = None;
        self.attributes(|reader, attribute| match attribute {
            "name" => once(&mut name, reader.string()?),
            "ip" => once(&mut ip, reader.string()?),
            _ => None,
        })?;
        Some(NixNode {
            name: name?,
            ip: ip?,
        })
    }

    fn endpoint(&mut self) -> Option<Endpoint> {
        let mut host = None;
        let mut port = None;
        self.attributes(|reader, attribute| match attribute {
            "host" => once(&mut host, reader.string()?),
            "port" => once(&mut port, reader.port()?),
            _ => None,
        })?;
        Some(Endpoint {
            host: host?,
            port: port?,
        })
    }

    fn port(&mut self) -> Option<u16> {
        self.skip();
        self.run(|c| c.is_ascii_digit()).parse().ok()
    }

    /// A string in double quotes without interpolation, as Nix's own scanner reads it.
    fn string(&mut self) -> Option<String> {
        self.eat('"')?;
        let mut out = String::new();
        let mut chars = self.rest.chars();
        loop {
            match chars.next()? {
                '"' => break,
                '\\' => out.push(match chars.next()? {
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    c => c,
                }),
                '$' => {
                    out.push('$');
                    match chars.as_str().chars().next()? {
                        '{' => return None,
                        // The second of two does not open an interpolation either.
                        '$' => out.extend(chars.next()),
                        _ => {}
                    }
                }
                // Nix reads a bare carriage return, with or without a newline after it, as a newline.
                '\r' => {
                    out.push('\n');
                    if let Some(rest) = chars.as_str().strip_prefix('\n') {
                        chars = rest.chars();
                    }
                }
                c => out.push(c),
            }
        }
        self.rest = chars.as_str();
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"{ name = "prod"; id = "9f2c4e1ab0d35c77"; bootstrap = null; join = null; endpoint = null; controlPlane = [ ]; workers = [ ]; }"#;

    /// The name that the text gives the cluster, `literal` standing as its value.
    fn name(literal: &str) -> Option<String> {
        parse(&FULL.replace("\"prod\"", literal)).map(|values| values.name)
    }

    #[test]
    fn any_layout_and_order() {
        let text = "# head\r\n#\n\t{workers=[{ip=\"1\";name=\"w\";}{name=\"v\" ;\nip = \"2\"; } # a \"comment\" }\n];controlPlane=[];\
                    endpoint={port=0443;host=\"h\";};join={name=\"c\";ip=\"3\";};bootstrap=\"c\";id=\"9f2c4e1ab0d35c77\";name=\"prod\";}#";
        let node = |name: &str, ip: &str| NixNode {
            name: name.to_owned(),
            ip: ip.to_owned(),
        };
        assert_eq!(
            parse(text),
            ClusterId::parse("9f2c4e1ab0d35c77").map(|id| Values {
                name: "prod".to_owned(),
                id,
                bootstrap: Some("c".to_owned()),
                join: Some(node("c", "3")),
                endpoint: Some(Endpoint {
                    host: "h".to_owned(),
                    port: 443
                }),
                control_plane: vec![],
                workers: vec![node("w", "1"), node("v", "2")],
            })
        );
    }

    #[test]
    fn strings_as_nix_reads_them() {
        for (literal, value) in [
            (r#""""#, ""),
            (r#""\n\r\t\"\\\$\a\'""#, "\n\r\t\"\\$a'"),
            (r#""$""#, "$"),
            (r#""$x $$ $${y} $\${z}""#, "$x $$ $${y} $${z}"),
            ("\"a\r\nb\rc\nd\"", "a\nb\nc\nd"),
            ("\"$\r\n\"", "$\n"),
            ("\"''\u{202e}\"", "''\u{202e}"),
        ] {
            assert_eq!(name(literal).as_deref(), Some(value), "{literal}");
        }
        for bad in [
            r#""${x}""#,
            r#""$$${x}""#,
            r#""open"#,
            "\"\0\"",
            "\"\\\0\"",
            "''a''",
            "null",
            "a",
            r#""a" + "b""#,
            r#"("a")"#,
        ] {
            assert_eq!(name(bad), None, "{bad}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        assert!(parse(FULL).is_some());
        for (from, to) in [
            ("name = \"prod\";", ""),
            ("workers = [ ];", ""),
            ("{ name", "{ extra = 1; name"),
            ("{ name", "{ name = \"prod\"; name"),
            ("{ name", "rec { name"),
            ("{ name", "{ \"name\""),
            ("{ name", "/* */ { name"),
            ("[ ]; }", "[ ] }"),
            ("[ ]; }", "[ ]; } 1"),
            ("[ ]; }", "[ ];"),
            ("[ ]; }", "[ null ]; }"),
            ("[ ]; }", "[ { name = \"w\"; } ]; }"),
            ("[ ]; }", "null; }"),
            ("9f2c4e1ab0d35c77", "9F2C4E1AB0D35C77"),
            ("endpoint = null", "endpoint = nullx"),
            (
                "endpoint = null",
                "endpoint = nullx { host = \"h\"; port = 1; }",
            ),
            (
                "endpoint = null",
                "endpoint = f { host = \"h\"; port = 1; }",
            ),
            ("endpoint = null", "endpoint = true"),
            ("endpoint = null", "endpoint = { host = \"h\"; }"),
            (
                "endpoint = null",
                "endpoint = { host = \"h\"; port = 65536; }",
            ),
            ("endpoint = null", "endpoint = { host = \"h\"; port = -1; }"),
            (
                "endpoint = null",
                "endpoint = { host = \"h\"; port = 1.5; }",
            ),
            (
                "endpoint = null",
                "endpoint = { host = \"h\"; port = \"1\"; }",
            ),
        ] {
            let text = FULL.replacen(from, to, 1);
            assert_ne!(text, FULL);
            assert_eq!(parse(&text), None, "{text}");
        }
    }

    #[test]
    fn depth_is_no_matter() {
        for open in [
            "{",
            "[",
            "{ join = ",
            "{ workers = [ {",
            "#",
            "\"",
            "{ name = \"$",
            "\\",
        ] {
            assert_eq!(parse(&open.repeat(200_000)), None);
        }
    }
}
