//! The key by which the processes of one deployment know each other: a process without a store proves with it that it
//! may ask a backend about callers and projects. It is derived from the secret that the processes share. A signature
//! covers the whole question, so that a copied signature can only repeat that question.

use crate::token::TokenDigest;

/// Separates these signatures from everything else that the secret is used for.
const PURPOSE: &str = "matyan 2026-11 questions of processes";

#[derive(Clone)]
pub struct ProcessKey([u8; 32]);

/// A question of a process without a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question<'a> {
    /// The caller with the token of this digest; `None` for everyone who sends no token.
    Caller(Option<&'a TokenDigest>),
    /// Whether there is a project with this name.
    Project(&'a str),
    /// Whether a project with this name has a run with this id.
    Run { project: &'a str, run_id: &'a str },
}

impl ProcessKey {
    /// Derives the key from a secret of any length.
    pub fn new(secret: &[u8]) -> Self {
        Self(blake3::derive_key(PURPOSE, secret))
    }

    pub fn sign(&self, question: Question<'_>) -> Vec<u8> {
        self.signature(question).as_bytes().to_vec()
    }

    /// Whether a signature of a question was made with this key.
    pub fn verify(&self, question: Question<'_>, signature: &[u8]) -> bool {
        // `Hash` compares in constant time.
        let given = <[u8; blake3::OUT_LEN]>::try_from(signature);
        given.is_ok_and(|given| self.signature(question) == given)
    }

    fn signature(&self, question: Question<'_>) -> blake3::Hash {
        let (kind, content) = match &question {
            Question::Caller(None) => (0, &[][..]),
            Question::Caller(Some(digest)) => (1, &digest.0[..]),
            Question::Project(name) => (2, name.as_bytes()),
            Question::Run { project, .. } => (3, project.as_bytes()),
        };
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&[kind]).update(content);
        if let Question::Run { run_id, .. } = question {
            // No name of a project contains the separator.
            hasher.update(&[0]).update(run_id.as_bytes());
        }
        hasher.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_78_a_signature_is_about_one_question_and_needs_the_secret() {
        let key = ProcessKey::new(b"secret");
        let digests = [TokenDigest([7; 32]), TokenDigest([8; 32])];
        let questions = [
            Question::Caller(None),
            Question::Caller(Some(&digests[0])),
            Question::Caller(Some(&digests[1])),
            Question::Project(""),
            Question::Project("speech"),
            Question::Project("vision"),
            Question::Run { project: "speech", run_id: "r" },
            Question::Run { project: "speech", run_id: "s" },
            Question::Run { project: "speechr", run_id: "" },
            Question::Run { project: "", run_id: "speechr" },
        ];
        for signed in questions {
            let signature = key.sign(signed);
            for asked in questions {
                assert_eq!(key.verify(asked, &signature), asked == signed, "{signed:?} {asked:?}");
            }
            assert!(ProcessKey::new(b"secret").verify(signed, &signature), "processes share the secret");
            assert!(!ProcessKey::new(b"other").verify(signed, &signature));
            assert!(!key.verify(signed, &signature[1..]));
            assert!(!key.verify(signed, &[]));
        }
    }
}
