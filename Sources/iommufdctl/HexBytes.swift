// SPDX-License-Identifier: Apache-2.0

internal import ArgumentParser

/// Bytes written as hexadecimal digits in memory order, with optional `_` or `:` between them.
struct HexBytes: ExpressibleByArgument {
  let bytes: [UInt8]

  init?(argument: String) {
    let digits = argument.filter { $0 != "_" && $0 != ":" }
    guard digits.count.isMultiple(of: 2) else { return nil }
    var bytes: [UInt8] = []
    var rest = digits[...]
    while !rest.isEmpty {
      guard let byte = UInt8(rest.prefix(2), radix: 16) else { return nil }
      bytes.append(byte)
      rest.removeFirst(2)
    }
    self.bytes = bytes
  }
}

/// Returns `bytes` as hexadecimal digits without separators.
func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
  bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
}
