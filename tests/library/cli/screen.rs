//! A terminal's screen: what somebody sees of what programs write to it.

/// Rows of characters, of which those of a region scroll.
pub(super) struct Screen {
    /// What has scrolled away at the top.
    gone: Vec<String>,
    rows: Vec<Vec<char>>,
    columns: usize,
    at: (usize, usize),
    saved: (usize, usize),
    /// The first and the last row that scroll.
    region: (usize, usize),
}

impl Screen {
    pub(super) fn new(rows: usize, columns: usize) -> Self {
        Self {
            gone: Vec::new(),
            rows: vec![Vec::new(); rows],
            columns,
            at: (0, 0),
            saved: (0, 0),
            region: (0, rows - 1),
        }
    }

    /// What is seen after all of a text was written.
    pub(super) fn of(rows: usize, columns: usize, text: &str) -> Self {
        let mut screen = Self::new(rows, columns);
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            match character {
                '\x1b' => screen.escape(&mut characters),
                '\r' => screen.at.1 = 0,
                '\n' => screen.feed(),
                character => screen.put(character),
            }
        }
        screen
    }

    /// All lines that are not empty, those that have scrolled away first.
    pub(super) fn lines(&self) -> Vec<String> {
        let shown = (0..self.rows.len()).map(|row| self.row(row));
        self.gone
            .iter()
            .cloned()
            .chain(shown)
            .filter(|line| !line.is_empty())
            .collect()
    }

    pub(super) fn row(&self, row: usize) -> String {
        self.rows[row]
            .iter()
            .collect::<String>()
            .trim_end()
            .to_owned()
    }

    pub(super) fn region(&self) -> (usize, usize) {
        self.region
    }

    fn put(&mut self, character: char) {
        if self.at.1 == self.columns {
            self.at.1 = 0;
            self.feed();
        }
        let (row, column) = self.at;
        let cells = &mut self.rows[row];
        cells.resize(cells.len().max(column + 1), ' ');
        cells[column] = character;
        self.at.1 += 1;
    }

    fn feed(&mut self) {
        let (top, bottom) = self.region;
        if self.at.0 == bottom {
            let first: String = self.rows.remove(top).into_iter().collect();
            self.gone.push(first.trim_end().to_owned());
            self.rows.insert(bottom, Vec::new());
        } else if self.at.0 + 1 < self.rows.len() {
            self.at.0 += 1;
        }
    }

    fn escape(&mut self, characters: &mut std::str::Chars<'_>) {
        match characters.next() {
            Some('7') => self.saved = self.at,
            Some('8') => self.at = self.saved,
            Some('[') => {
                let mut numbers = String::new();
                let end = characters.find(|character| {
                    let is_end = character.is_ascii_alphabetic();
                    if !is_end {
                        numbers.push(*character);
                    }
                    is_end
                });
                let number = |at: usize| {
                    numbers
                        .split(';')
                        .nth(at)
                        .and_then(|number| number.parse::<usize>().ok())
                };
                match end {
                    Some('r') => {
                        let (first, last) =
                            (number(0).unwrap_or(1), number(1).unwrap_or(self.rows.len()));
                        (self.region, self.at) = ((first - 1, last - 1), (0, 0));
                    }
                    Some('H') => self.at = (number(0).unwrap_or(1) - 1, number(1).unwrap_or(1) - 1),
                    Some('K') if number(0) == Some(2) => self.rows[self.at.0].clear(),
                    Some('A') => self.at.0 = self.at.0.saturating_sub(number(0).unwrap_or(1)),
                    // a style
                    Some('m') => {}
                    other => panic!("unknown: ESC [ {numbers} {other:?}"),
                }
            }
            other => panic!("unknown: ESC {other:?}"),
        }
    }
}
