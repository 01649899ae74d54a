//! Pages, their fenced blocks and their inline code. Pure.

/// One page of the documentation.
#[derive(Clone, Debug)]
pub(super) struct Page {
    /// Path below the root of the repository.
    pub(super) name: String,
    /// Its text.
    pub(super) text: String,
}

/// One fenced block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// Page that it stands on.
    pub(super) page: String,
    /// Line of its fence, from 1.
    pub(super) line: usize,
    /// First word behind the fence.
    pub(super) language: String,
    /// The other words behind the fence.
    pub(super) about: String,
    /// What stands between the fences.
    pub(super) text: String,
}

impl Block {
    /// `README.md:27`
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.page, self.line)
    }
}

/// A piece of code in the text, between back-ticks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Code {
    /// `README.md:27`
    pub(super) place: String,
    /// Without the back-ticks.
    pub(super) text: String,
}

impl Page {
    /// Every fenced block, in order. An open fence at the end of the page is a block up to there.
    pub(super) fn blocks(&self) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        let mut is_open = false;
        for (number, line) in self.text.lines().enumerate() {
            match line.strip_prefix("```") {
                Some(_) if is_open => is_open = false,
                Some(info) => {
                    let (language, about) = info.split_once(' ').unwrap_or((info, ""));
                    blocks.push(Block {
                        page: self.name.clone(),
                        line: number + 1,
                        language: language.to_owned(),
                        about: about.trim().to_owned(),
                        text: String::new(),
                    });
                    is_open = true;
                }
                None if is_open => {
                    if let Some(block) = blocks.last_mut() {
                        block.text.push_str(line);
                        block.text.push('\n');
                    }
                }
                None => {}
            }
        }
        blocks
    }

    /// Every line outside the fenced blocks, with its number.
    pub(super) fn prose(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut is_open = false;
        self.text.lines().enumerate().filter_map(move |(number, line)| {
            if line.starts_with("```") {
                is_open = !is_open;
                return None;
            }
            (!is_open).then_some((number + 1, line))
        })
    }

    /// Every piece of inline code, line by line. A `\|` in a table is a `|`.
    pub(super) fn codes(&self) -> Vec<Code> {
        let mut codes = Vec::new();
        for (number, line) in self.prose() {
            for (index, piece) in line.split('`').enumerate() {
                if index % 2 == 1 {
                    let place = format!("{}:{number}", self.name);
                    codes.push(Code { place, text: piece.replace("\\|", "|") });
                }
            }
        }
        codes
    }
}

/// True if `pattern` stands in `text`, where `…` stands for anything.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let mut rest = text;
    for part in pattern.split('…').map(str::trim).filter(|part| !part.is_empty()) {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

/// The first line of `wanted` that does not come in `said`, in order; none if all do. Blanks count as one blank.
pub(super) fn missing_line<'a>(wanted: &'a str, said: &str) -> Option<&'a str> {
    let single = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut lines = said.lines().map(single);
    wanted
        .lines()
        .filter(|pattern| !pattern.trim().is_empty())
        .find(|pattern| !lines.any(|line| matches(&single(pattern), &line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str) -> Page {
        Page { name: "p.md".to_owned(), text: text.to_owned() }
    }

    #[test]
    fn blocks_have_their_place_and_what_stands_behind_the_fence() {
        let blocks = page("a `b` c\n```sh\nx\n```\n\n```yaml node settings\ny: 1\n```\n").blocks();
        let seen: Vec<_> = blocks.iter().map(|b| (b.line, &*b.language, &*b.about, &*b.text)).collect();
        assert_eq!(seen, [(2, "sh", "", "x\n"), (6, "yaml", "node settings", "y: 1\n")]);
    }

    #[test]
    fn inline_code_is_found_outside_of_blocks_only() {
        let codes = page("a `b` c `d\\|e`\n```sh\n`x`\n```\n").codes();
        assert_eq!(codes.iter().map(|code| &*code.text).collect::<Vec<_>>(), ["b", "d|e"]);
    }

    #[test]
    fn wanted_lines_come_in_order_with_dots_for_anything() {
        let said = "one  sha256:12 two\nthree\nfour\n";
        assert_eq!(missing_line("one … two\nfour\n", said), None);
        assert_eq!(missing_line("four\nthree\n", said), Some("three"));
        assert_eq!(missing_line("one … five\n", said), Some("one … five"));
    }
}
