//! The documents in force, for clients that run the engine themselves.

use serde::{Deserialize, Serialize};

/// How many bytes of text one reply holds at most: six times as much, were every byte escaped, is below
/// [`crate::frame::REPLY_LENGTH`].
pub const PIECE: usize = 2 << 20;

/// One document, or a piece of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// The path below the directory that the agent watches.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// Some of the documents, in their order. A document that is too long for one reply goes on in the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct World {
    /// The documents.
    pub documents: Vec<Document>,
    /// Whether the first is the rest of the last of the reply before.
    pub continues: bool,
}

/// Documents as replies of bounded length, in order; at least one. Each document is asked for when it is its turn.
pub fn pieces(documents: impl Iterator<Item = Document>) -> impl Iterator<Item = World> {
    let mut documents = documents.peekable();
    let (mut offset, mut begun) = (0, false);
    std::iter::from_fn(move || {
        if begun && documents.peek().is_none() {
            return None;
        }
        begun = true;
        let mut world = World { documents: Vec::new(), continues: offset > 0 };
        let mut room = PIECE;
        while let Some(document) = documents.peek() {
            let rest = document.text.get(offset..).unwrap_or_default();
            let used = document.name.len().max(64);
            if used >= room && !world.documents.is_empty() {
                break;
            }
            room = room.saturating_sub(used).max(4);
            let text = rest.get(..rest.floor_char_boundary(room)).unwrap_or_default();
            room = room.saturating_sub(text.len());
            world.documents.push(Document { name: document.name.clone(), text: text.to_owned() });
            if text.len() < rest.len() {
                offset += text.len();
                return Some(world);
            }
            documents.next();
            offset = 0;
        }
        Some(world)
    })
}

/// Puts one more reply to those before it.
pub fn join(documents: &mut Vec<Document>, piece: World) {
    let mut more = piece.documents.into_iter();
    if piece.continues
        && let Some(last) = documents.last_mut()
        && let Some(first) = more.next()
    {
        last.text.push_str(&first.text);
    }
    documents.extend(more);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(texts: &[String]) -> Vec<Document> {
        let documents = texts.iter().enumerate();
        documents
            .map(|(index, text)| Document { name: format!("{index}.yaml"), text: text.clone() })
            .collect()
    }

    #[test]
    fn documents_of_any_length_come_out_of_their_pieces_as_they_were() {
        let cases = [
            vec![],
            vec![String::new()],
            vec!["a".repeat(PIECE - 64), "b".to_owned(), String::new()],
            // No cut falls on a boundary of these by itself.
            vec!["x".to_owned(), "\u{1f600}".repeat(PIECE), "y".to_owned()],
            (0..10_000).map(|number| number.to_string()).collect(),
            vec!["\u{1}".repeat(3 * PIECE)],
        ];
        for case in cases {
            let all = documents(&case);
            let (mut joined, mut count) = (Vec::new(), 0);
            for piece in pieces(all.iter().cloned()) {
                let line = serde_json::to_string(&piece).unwrap();
                assert!(line.len() < crate::frame::REPLY_LENGTH, "{}", line.len());
                join(&mut joined, piece);
                count += 1;
            }
            assert!(count >= 1);
            assert!(joined == all, "{} documents", all.len());
        }
    }
}
