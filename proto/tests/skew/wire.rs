//! Protocol buffers at the level of bytes: fields by number, without a schema
//! (protobuf.dev, "Encoding"). Only what the tests need; panics on anything else.

/// One field as it stands in a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its number.
    pub number: u32,
    /// Key and value, as encoded.
    pub bytes: Vec<u8>,
}

/// A base-128 number.
pub fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A field of wire type 0.
pub fn number(field: u32, value: u64) -> Field {
    let mut bytes = Vec::new();
    varint(u64::from(field) << 3, &mut bytes);
    varint(value, &mut bytes);
    Field { number: field, bytes }
}

/// A field of wire type 2.
pub fn delimited(field: u32, value: &[u8]) -> Field {
    let mut bytes = Vec::new();
    varint(u64::from(field) << 3 | 2, &mut bytes);
    varint(value.len() as u64, &mut bytes);
    bytes.extend_from_slice(value);
    Field { number: field, bytes }
}

/// Fields of wire types 5 and 1.
pub fn fixed(field: u32) -> [Field; 2] {
    let key = |kind: u64| {
        let mut bytes = Vec::new();
        varint(u64::from(field) << 3 | kind, &mut bytes);
        bytes
    };
    let (mut four, mut eight) = (key(5), key(1));
    four.extend([1, 2, 3, 4]);
    eight.extend([1, 2, 3, 4, 5, 6, 7, 8]);
    [Field { number: field, bytes: four }, Field { number: field, bytes: eight }]
}

/// The fields of a message, in order.
pub fn fields(mut message: &[u8]) -> Vec<Field> {
    let mut found = Vec::new();
    while !message.is_empty() {
        let start = message;
        let key = read(&mut message);
        let length = match key & 7 {
            0 => {
                read(&mut message);
                0
            }
            1 => 8,
            2 => read(&mut message) as usize,
            5 => 4,
            other => panic!("expected wire type 0, 1, 2 or 5, found {other}"),
        };
        message = &message[length..];
        let bytes = start[..start.len() - message.len()].to_vec();
        found.push(Field { number: (key >> 3) as u32, bytes });
    }
    found
}

fn read(bytes: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let (first, rest) = bytes.split_first().expect("a whole number");
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return value;
        }
        shift += 7;
    }
}

/// A message of these fields.
pub fn message(fields: &[Field]) -> Vec<u8> {
    fields.iter().flat_map(|field| field.bytes.clone()).collect()
}
