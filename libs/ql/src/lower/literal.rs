//! Number literals and f-strings. Integers beyond 64 bits keep their digits; integers longer
//! than CPython parses are refused. Format specs stay text because they are parsed when a value is
//! formatted.

use num_bigint::BigUint;
use num_traits::Num;
use ruff_python_ast as ast;
use ruff_text_size::Ranged;

use super::Lowering;
use crate::error::Fault;
use crate::limits::{MAX_INT_BITS, MAX_INT_DIGITS};
use crate::tree::{BigConstant, Constant, Conversion, FormatPiece, Node};

pub(super) fn number(node: &ast::ExprNumberLiteral) -> Result<Node, Fault> {
    Ok(Node::Const(match &node.value {
        ast::Number::Int(int) => match int.as_i64() {
            Some(small) => Constant::Int(small),
            None => Constant::Big(big(&int.to_string(), node)?),
        },
        ast::Number::Float(float) => Constant::Float(*float),
        ast::Number::Complex { real, imag } => Constant::Complex(*real, *imag),
    }))
}

fn big(token: &str, node: &ast::ExprNumberLiteral) -> Result<BigConstant, Fault> {
    let digits = token.replace('_', "").to_ascii_lowercase();
    let (digits, radix) = match digits.split_at_checked(2) {
        Some(("0x", rest)) => (rest, 16),
        Some(("0o", rest)) => (rest, 8),
        Some(("0b", rest)) => (rest, 2),
        _ => (digits.as_str(), 10),
    };
    if radix == 10 && digits.len() > MAX_INT_DIGITS {
        return Err(too_long(node));
    }
    let value = BigUint::from_str_radix(digits, radix)
        .map_err(|_| Fault::syntax(node.range(), "invalid number literal"))?;
    if value.bits() > MAX_INT_BITS {
        return Err(too_long(node));
    }
    Ok(BigConstant { negative: false, digits: value.to_u32_digits().into() })
}

fn too_long(node: &ast::ExprNumberLiteral) -> Fault {
    let message = format!("integer literal with more than {MAX_INT_DIGITS} digits");
    Fault::syntax(node.range(), message)
}

impl Lowering<'_> {
    pub(super) fn f_string(&mut self, node: &ast::ExprFString) -> Result<Node, Fault> {
        let mut pieces = Vec::new();
        for part in &node.value {
            match part {
                ast::FStringPart::Literal(literal) => pieces.push(FormatPiece::Text((*literal.value).into())),
                ast::FStringPart::FString(part) => pieces.extend(self.pieces(&part.elements)?),
            }
        }
        Ok(Node::Format(pieces.into()))
    }

    fn pieces(&mut self, elements: &ast::InterpolatedStringElements) -> Result<Vec<FormatPiece>, Fault> {
        let mut pieces = Vec::new();
        for element in elements {
            match element {
                ast::InterpolatedStringElement::Literal(literal) => {
                    pieces.push(FormatPiece::Text(literal.value.clone()));
                }
                ast::InterpolatedStringElement::Interpolation(element) => {
                    self.interpolation(element, &mut pieces)?;
                }
            }
        }
        Ok(pieces)
    }

    fn interpolation(
        &mut self,
        element: &ast::InterpolatedElement,
        pieces: &mut Vec<FormatPiece>,
    ) -> Result<(), Fault> {
        let mut conversion = match element.conversion {
            ast::ConversionFlag::None => Conversion::None,
            ast::ConversionFlag::Str => Conversion::Str,
            ast::ConversionFlag::Repr => Conversion::Repr,
            ast::ConversionFlag::Ascii => Conversion::Ascii,
        };
        // `{x=}` writes its own source first, followed by the value as `repr` formats
        // it.
        if let Some(debug) = &element.debug_text {
            pieces.push(FormatPiece::Text(debug.as_str().into()));
            if conversion == Conversion::None && element.format_spec.is_none() {
                conversion = Conversion::Repr;
            }
        }
        let spec = element.format_spec.as_ref().map(|spec| self.pieces(&spec.elements)).transpose()?;
        let value = self.node(&element.expression)?;
        pieces.push(FormatPiece::Value { value, conversion, spec: spec.map(Into::into) });
        Ok(())
    }
}
