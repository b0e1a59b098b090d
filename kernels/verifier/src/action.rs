//! What the instructions that kernels may contain do.

use crate::extremes::Extreme;

/// `[base + index·scale + displacement]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Address {
    pub base: u8,
    pub index: Option<(u8, u8)>,
    pub displacement: i64,
}

/// When a jump is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    Always,
    Equal,
    NotEqual,
    Below,
    AboveEqual,
    Less,
    GreaterEqual,
}

/// Arithmetic on 64 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arithmetic {
    Add,
    Sub,
    Compare,
    And,
    Multiply,
    ShiftLeft,
    ShiftRight,
}

/// A general-purpose register or an immediate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operand {
    Register(u8),
    Number(u64),
}

/// An operand of a vector instruction; what the register's number counts depends on the instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    None,
    Register(u8),
    Memory(Address),
    /// One lane of memory for all.
    Broadcast(Address),
}

/// Lanes that take part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mask {
    All,
    /// Of an opmask register; others keep their value.
    Merge(u8),
    /// Of an opmask register; others become zero.
    Zero(u8),
    /// Those whose sign is set in a vector register (VEX).
    Signs(u8),
}

/// A value from the same lane of each operand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lanewise {
    Add,
    Subtract,
    Multiply,
    Divide,
    Extreme(Extreme),
    SquareRoot,
    Round,
    ToInteger,
    And,
    Xor,
    AddIntegers,
    SubtractIntegers,
    ShiftLeft,
    ShiftRight,
    EqualIntegers,
}

/// Lanes in another order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shuffle {
    UnpackLow,
    UnpackHigh,
    Pairs,
    Permute,
    PermuteTwo,
    PermuteInParts,
    AlignInParts,
    Align,
    Quarters,
    Halves,
}

/// What a vector instruction does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meaning {
    /// Registers and memory.
    Move,
    /// As `Move`; memory must be aligned to the whole register.
    MoveAligned,
    /// Lane 0 and memory; the other lanes become zero.
    MoveLane,
    /// A general-purpose register to lane 0; the other lanes become zero.
    FromGeneral,
    /// A general-purpose register to all lanes.
    BroadcastGeneral,
    /// Memory or lane 0 to all lanes.
    BroadcastLane,
    /// Four lanes of memory to each 128-bit part.
    BroadcastQuad,
    MultiplyAdd,
    /// The target is a factor.
    MultiplyThenAdd,
    NegatedMultiplyAdd,
    Lanewise(Lanewise),
    Shuffle(Shuffle),
    /// The mask chooses between the operands.
    Blend,
    Gather,
    /// Numbers of some bytes to lanes.
    Widen(u8),
    /// 16 bits of memory to an opmask register.
    LoadMask,
    /// Opmask registers.
    Xnor,
    /// Lanes with a bit in common, to an opmask register.
    Test,
}

/// A vector instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vector {
    pub meaning: Meaning,
    /// Lanes of the register; 1 for scalars.
    pub width: u8,
    pub to: Place,
    pub a: Place,
    pub b: Place,
    pub mask: Mask,
    /// Of a gather, the scale of its indices.
    pub immediate: u8,
}

/// What an instruction does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// No-ops and prefetches, which may name any address.
    Nothing,
    Jump {
        to: u64,
        when: When,
    },
    Call(u64),
    Return,
    Push(u8),
    Pop(u8),
    Set {
        to: u8,
        from: Operand,
    },
    Load {
        to: u8,
        from: Address,
        bytes: u8,
        signed: bool,
    },
    /// The others become zero.
    LowBits {
        to: u8,
        from: u8,
        bits: u8,
    },
    /// 8 bytes.
    Store {
        to: Address,
        from: u8,
    },
    AddressOf {
        to: u8,
        from: Address,
    },
    /// A register becomes the address of an offset of the code.
    Constants {
        to: u8,
        from: u64,
    },
    Arithmetic {
        what: Arithmetic,
        to: u8,
        a: u8,
        b: Operand,
    },
    ZeroUpper,
    Vector(Vector),
}
