//! Contents of files that compress about as those of a distribution do: sources, machine code,
//! tables, and what is compressed already.
//!
//! Invariant: a function of the seed alone.

/// xorshift64*: fast, and the same everywhere.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// From a seed; 0 would stay 0.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `bound`, which is small against 2^32.
    pub fn below(&mut self, bound: usize) -> usize {
        (((self.bits() >> 32) * bound as u64) >> 32) as usize
    }

    /// Below `bound`, small numbers much more often, as with words.
    pub fn skewed(&mut self, bound: usize) -> usize {
        let (a, b, c) = (self.below(bound), self.below(bound), self.below(bound));
        a * b / bound * c / bound
    }
}

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    /// Sources and other text.
    Text,
    /// Machine code and tables.
    Binary,
    /// Compressed already.
    Noise,
}

/// Makes contents.
pub struct Contents {
    words: Vec<Vec<u8>>,
    phrases: Vec<Vec<u8>>,
}

/// Words of the language.
const WORDS: usize = 6000;
/// Lines that many files share: licences, includes, prologues.
const PHRASES: usize = 900;
/// Instructions, one to seven bytes each.
const OPCODES: usize = 700;

impl Contents {
    /// The language of a seed.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x77);
        let word = |random: &mut Random| -> Vec<u8> {
            let length = 2 + random.below(6) + random.below(6);
            (0..length).map(|_| b'a' + random.skewed(26) as u8).collect()
        };
        let words: Vec<Vec<u8>> = (0..WORDS).map(|_| word(&mut random)).collect();
        let mut made = Self { words, phrases: Vec::new() };
        for _ in 0..PHRASES {
            let mut line = Vec::new();
            made.line(&mut random, &mut line);
            made.phrases.push(line);
        }
        made
    }

    /// The content of one file.
    pub fn file(&self, nature: Nature, length: usize, random: &mut Random) -> Vec<u8> {
        let mut out = Vec::with_capacity(length + 256);
        match nature {
            Nature::Text => {
                while out.len() < length {
                    match random.below(10) {
                        0..3 => out.extend_from_slice(&self.phrases[random.skewed(PHRASES)]),
                        3 if out.len() > 4000 => {
                            // As people do: copy some lines from above, and go on.
                            let from = out.len() - 1 - random.below(3900);
                            let copied = out[from..(from + 160).min(out.len())].to_vec();
                            out.extend_from_slice(&copied);
                        }
                        _ => self.line(random, &mut out),
                    }
                }
            }
            Nature::Binary => self.binary(length, random, &mut out),
            Nature::Noise => {
                while out.len() < length {
                    out.extend_from_slice(&random.bits().to_le_bytes());
                }
            }
        }
        out.truncate(length);
        out
    }

    fn line(&self, random: &mut Random, out: &mut Vec<u8>) {
        out.extend(std::iter::repeat_n(b' ', 4 * random.skewed(6)));
        for place in 0..1 + random.below(9) {
            if place > 0 {
                out.extend_from_slice(
                    [&b" "[..], b"_", b"->", b"(", b", ", b" = "][random.skewed(6)],
                );
            }
            out.extend_from_slice(&self.words[random.skewed(WORDS)]);
            if random.below(24) == 0 {
                out.extend_from_slice(random.below(1000).to_string().as_bytes());
            }
        }
        out.extend_from_slice([&b";\n"[..], b"\n", b" {\n", b");\n"][random.skewed(4)]);
    }

    fn binary(&self, length: usize, random: &mut Random, out: &mut Vec<u8>) {
        while out.len() < length {
            match random.below(20) {
                0 => out.extend(std::iter::repeat_n(0, 16 + random.below(200))),
                1 => {
                    for _ in 0..8 {
                        out.extend_from_slice(&self.words[random.skewed(WORDS)]);
                        out.push(0);
                    }
                }
                2 | 3 => {
                    // A table of addresses.
                    let base = 0x40_0000 + random.below(1 << 20) as u64;
                    for row in 0..12 {
                        let address = base + row * 16 + random.below(16) as u64;
                        out.extend_from_slice(&address.to_le_bytes());
                    }
                }
                _ => {
                    for _ in 0..24 {
                        let code = random.skewed(OPCODES) as u64;
                        let bytes = (code + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
                        out.extend_from_slice(&bytes[..1 + (code % 5) as usize]);
                        if random.below(3) == 0 {
                            out.push(random.below(256) as u8);
                            out.extend_from_slice(&[0; 2]);
                        }
                    }
                }
            }
        }
    }
}
