//! Codes of programs that wait for a token. A person types the code in a browser that has signed in, so it is short: it
//! names one of the few logins of the last minutes, and is worth nothing to anyone who has not signed in.

use crate::token::TokenDigest;

/// Letters that are not mistaken for each other or for digits, and form no words.
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";

/// Letters of a code: 34 bits. Few codes can be tried in a session.
const CODE_LETTERS: usize = 8;

/// Separates codes from everything else that BLAKE3 is used for.
const PURPOSE: &str = "matyan login code v1";

/// The code of a token that waits until someone allows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginCode(String);

impl LoginCode {
    /// The code of the token with this digest. The digest has 256 random bits, and few of them are in the code.
    pub fn of(token: &TokenDigest) -> Self {
        let bytes = blake3::derive_key(PURPOSE, &token.0);
        let (numbers, _) = bytes.as_chunks::<4>();
        let letters = numbers
            .iter()
            .take(CODE_LETTERS)
            .map(|number| LETTERS[u32::from_le_bytes(*number) as usize % LETTERS.len()]);
        Self(letters.map(char::from).collect())
    }

    /// The code that someone has typed, in any case, with any spaces and hyphens; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let letters = text.chars().filter(|it| !it.is_whitespace() && *it != '-');
        let code: String = letters.take(CODE_LETTERS + 1).map(|it| it.to_ascii_uppercase()).collect();
        let is_code = code.len() == CODE_LETTERS && code.bytes().all(|byte| LETTERS.contains(&byte));
        is_code.then_some(Self(code))
    }

    /// The code in two groups, as people read and type it.
    pub fn shown(&self) -> String {
        let (first, second) = self.0.split_at(CODE_LETTERS / 2);
        format!("{first}-{second}")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_code_is_read_as_people_type_it() {
        let code = LoginCode::of(&TokenDigest([7; 32]));
        let shown = code.shown();
        assert_eq!((shown.len(), shown.find('-')), (9, Some(4)), "{shown}");
        let spaced = shown.to_lowercase().replace('-', " - ");
        for typed in [shown.as_str(), &shown.replace('-', ""), &spaced, &format!(" {shown}\n")] {
            assert_eq!(LoginCode::parse(typed), Some(code.clone()), "{typed}");
        }
        for wrong in ["", "BCDF", "BCDF-GHJ", "BCDF-GHJKL", "ACDF-GHJK", "BCDF-GHJ1", "BCDF-GHJÄ"] {
            assert_eq!(LoginCode::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn tokens_have_different_codes_with_all_letters() {
        let codes: Vec<_> = (0..=255).map(|byte| LoginCode::of(&TokenDigest([byte; 32])).0).collect();
        assert_eq!(codes.iter().collect::<HashSet<_>>().len(), 256);
        let letters: HashSet<_> = codes.iter().flat_map(|code| code.bytes()).collect();
        assert_eq!(letters, LETTERS.iter().copied().collect());
    }
}
