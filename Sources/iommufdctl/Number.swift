// SPDX-License-Identifier: Apache-2.0

internal import ArgumentParser

/// A 64-bit number as the command line spells it: 4096, 0x1000, 4K (K, M, G and T are powers of
/// 1024), or `max` for 2^64-1.
struct Number: ExpressibleByArgument {
  let value: UInt64

  init?(argument: String) {
    guard argument != "max" else {
      value = .max
      return
    }
    var digits = Substring(argument)
    var shift: UInt64 = 0
    if !digits.hasPrefix("0x"), let suffix = digits.last, let found = Self.shifts[suffix] {
      shift = found
      digits.removeLast()
    }
    let parsed =
      digits.hasPrefix("0x") ? UInt64(digits.dropFirst(2), radix: 16) : UInt64(digits, radix: 10)
    guard let parsed, parsed <= UInt64.max >> shift else { return nil }
    value = parsed << shift
  }

  var defaultValueDescription: String { String(value) }

  private static let shifts: [Character: UInt64] = ["K": 10, "M": 20, "G": 30, "T": 40]
}

/// A number of a 32-bit field: an object ID, a flags word or a count.
struct Word: ExpressibleByArgument {
  let value: UInt32

  init?(argument: String) {
    guard let number = Number(argument: argument), let value = UInt32(exactly: number.value) else {
      return nil
    }
    self.value = value
  }

  var defaultValueDescription: String { String(value) }
}

/// A range of IOVAs, `FIRST-LAST`. The last IOVA is included.
struct IOVARange: ExpressibleByArgument {
  let start: UInt64
  let last: UInt64

  init?(argument: String) {
    let ends = argument.split(separator: "-").map { Number(argument: String($0))?.value }
    guard ends.count == 2, let start = ends[0], let last = ends[1] else { return nil }
    self.start = start
    self.last = last
  }
}

extension Number {
  init(_ value: UInt64) { self.value = value }
}

extension Word {
  init(_ value: UInt32) { self.value = value }
}
