//! Expressions as the kernel dumps them.

use super::constants::{expr, object};
use super::expression::{Comparison, Expression, Load, SetName, read_value, read_verdict};
use crate::netlink::attribute::{Attribute, Attributes, Malformed};

/// Attributes of an expression with their types below this are kept.
const KINDS: usize = 8;

/// The expressions of a rule, or the name of the first that is not one of ours.
pub(crate) fn expressions(list: &[u8]) -> Result<Result<Vec<Expression>, String>, Malformed> {
    let mut expressions = Vec::new();
    for element in Attributes(list) {
        let (mut name, mut data) = ("", &[][..]);
        for attribute in element?.nested() {
            let attribute = attribute?;
            match attribute.kind {
                expr::NAME => name = attribute.text()?,
                expr::DATA => data = attribute.payload,
                _ => {}
            }
        }
        let parts = Parts::of(data)?;
        if name == "byteorder" && parts.number(expr::BYTEORDER_LEN)? == 1 {
            // nft 1.0.6 puts it before a look-up in ranges. The kernel swaps pairs of bytes, of which one byte has none.
            continue;
        }
        match expression(name, &parts)? {
            Some(expression) => expressions.push(expression),
            None => return Ok(Err(name.to_owned())),
        }
    }
    Ok(Ok(expressions))
}

/// The attributes of one expression, by type.
struct Parts<'a> {
    of: [Option<Attribute<'a>>; KINDS],
}

impl<'a> Parts<'a> {
    fn of(data: &'a [u8]) -> Result<Self, Malformed> {
        let mut of = [None; KINDS];
        for attribute in Attributes(data) {
            let attribute = attribute?;
            if let Some(place) = of.get_mut(usize::from(attribute.kind)) {
                *place = Some(attribute);
            }
        }
        Ok(Self { of })
    }

    fn get(&self, kind: u16) -> Option<Attribute<'a>> {
        self.of.get(usize::from(kind)).copied().flatten()
    }

    fn need(&self, kind: u16) -> Result<Attribute<'a>, Malformed> {
        self.get(kind).ok_or(Malformed("expression"))
    }

    fn number(&self, kind: u16) -> Result<u32, Malformed> {
        self.need(kind)?.u32()
    }

    fn value(&self, kind: u16) -> Result<Vec<u8>, Malformed> {
        read_value(self.need(kind)?).map(<[u8]>::to_vec)
    }
}

fn expression(name: &str, parts: &Parts<'_>) -> Result<Option<Expression>, Malformed> {
    let load = |what, register| Some(Expression::Load { what, register });
    Ok(match name {
        "meta" if parts.get(expr::META_DREG).is_some() => load(
            Load::Meta(parts.number(expr::META_KEY)?),
            parts.number(expr::META_DREG)?,
        ),
        "ct" if parts.get(expr::CT_DREG).is_some() => load(
            Load::Connection {
                key: parts.number(expr::CT_KEY)?,
                direction: match parts.get(expr::CT_DIRECTION) {
                    Some(direction) => Some(direction.u8()?),
                    None => None,
                },
            },
            parts.number(expr::CT_DREG)?,
        ),
        "payload" if parts.get(expr::PAYLOAD_DREG).is_some() => load(
            Load::Payload {
                base: parts.number(expr::PAYLOAD_BASE)?,
                offset: parts.number(expr::PAYLOAD_OFFSET)?,
                length: parts.number(expr::PAYLOAD_LEN)?,
            },
            parts.number(expr::PAYLOAD_DREG)?,
        ),
        "fib" => load(
            Load::Route {
                result: parts.number(expr::FIB_RESULT)?,
                flags: parts.number(expr::FIB_FLAGS)?,
            },
            parts.number(expr::FIB_DREG)?,
        ),
        "cmp" => comparison(parts)?,
        "range" => match parts.number(expr::RANGE_OP)? {
            operator @ 0..=1 => Some(Expression::Range {
                register: parts.number(expr::RANGE_SREG)?,
                outside: operator == 1,
                first: parts.value(expr::RANGE_FROM)?,
                last: parts.value(expr::RANGE_TO)?,
            }),
            _ => None,
        },
        "bitwise" => mask(parts)?,
        "lookup" => lookup(parts)?,
        "immediate" if parts.number(expr::IMMEDIATE_DREG)? == 0 => {
            read_verdict(parts.need(expr::IMMEDIATE_DATA)?)?.map(Expression::Immediate)
        }
        "counter" => Some(Expression::Counter),
        "objref" if parts.get(expr::OBJREF_TYPE).is_some() => {
            let is_counter = parts.number(expr::OBJREF_TYPE)? == object::COUNTER;
            let name = parts.need(expr::OBJREF_NAME)?.text()?;
            is_counter.then(|| Expression::NamedCounter(name.to_owned()))
        }
        "log" => log(parts)?,
        "reject" => Some(Expression::Reject {
            kind: parts.number(expr::REJECT_TYPE)?,
            code: match parts.get(expr::REJECT_CODE) {
                Some(code) => code.u8()?,
                None => 0,
            },
        }),
        _ => None,
    })
}

fn log(parts: &Parts<'_>) -> Result<Option<Expression>, Malformed> {
    let others = [expr::LOG_QUEUE_THRESHOLD, expr::LOG_LEVEL, expr::LOG_FLAGS];
    let is_set = |kind: &u16| {
        let set = parts.get(*kind).map(|part| part.payload);
        set.is_some_and(|bytes| bytes.iter().any(|byte| *byte != 0))
    };
    let Some(group) = parts.get(expr::LOG_GROUP) else {
        return Ok(None);
    };
    if others.iter().any(is_set) {
        return Ok(None);
    }
    let prefix = parts.get(expr::LOG_PREFIX);
    Ok(Some(Expression::Log {
        group: group.u16()?,
        prefix: match prefix {
            Some(prefix) => prefix.text()?.to_owned(),
            None => String::new(),
        },
        snaplen: match parts.get(expr::LOG_SNAPLEN) {
            Some(length) => length.u32()?,
            None => 0,
        },
    }))
}

fn comparison(parts: &Parts<'_>) -> Result<Option<Expression>, Malformed> {
    let operators = [
        Comparison::Equal,
        Comparison::NotEqual,
        Comparison::AtMost,
        Comparison::AtLeast,
    ];
    let number = parts.number(expr::CMP_OP)?;
    let operator = operators.into_iter().find(|known| *known as u32 == number);
    let Some(operator) = operator else {
        return Ok(None);
    };
    Ok(Some(Expression::Compare {
        register: parts.number(expr::CMP_SREG)?,
        operator,
        data: parts.value(expr::CMP_DATA)?,
    }))
}

fn mask(parts: &Parts<'_>) -> Result<Option<Expression>, Malformed> {
    let register = parts.number(expr::BITWISE_SREG)?;
    // NFT_BITWISE_MASK_XOR is what older kernels have without saying so.
    let operator = parts
        .get(expr::BITWISE_OP)
        .map_or(Ok(0), |operator| operator.u32())?;
    if operator != 0 || parts.number(expr::BITWISE_DREG)? != register {
        return Ok(None);
    }
    let mask = parts.value(expr::BITWISE_MASK)?;
    let plain = parts
        .value(expr::BITWISE_XOR)?
        .iter()
        .all(|byte| *byte == 0);
    Ok(plain.then_some(Expression::Mask { register, mask }))
}

fn lookup(parts: &Parts<'_>) -> Result<Option<Expression>, Malformed> {
    let register = parts.number(expr::LOOKUP_SREG)?;
    let name = parts.need(expr::LOOKUP_SET)?.text()?.to_owned();
    let flags = parts
        .get(expr::LOOKUP_FLAGS)
        .map_or(Ok(0), |flags| flags.u32())?;
    Ok(match parts.get(expr::LOOKUP_DREG) {
        None if flags & !expr::LOOKUP_INVERTED == 0 => Some(Expression::Lookup {
            register,
            set: SetName::Named(name),
            inverted: flags != 0,
        }),
        Some(destination) if flags == 0 && destination.u32()? == 0 => {
            Some(Expression::VerdictMap {
                register,
                map: name,
            })
        }
        _ => None,
    })
}
