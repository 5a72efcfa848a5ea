// SPDX-License-Identifier: Apache-2.0

internal import FoundationEssentials

/// The outputs of a subcommand: named values in a fixed order. In a script `$name` stands for the
/// first value.
struct Report {
  enum Value: Sendable {
    /// A count, an ID, a type or a descriptor, printed in decimal.
    case number(UInt64)
    /// An address, a length, flags or a register, printed in hexadecimal as text and as a number in
    /// JSON.
    case hex(UInt64)
    case text(String)
    case list([Value])
    case fields([Field])
  }

  struct Field: Sendable {
    let name: String
    let value: Value
    init(_ name: String, _ value: Value) {
      self.name = name
      self.value = value
    }

    static func decimal(_ name: String, _ value: some BinaryInteger) -> Field {
      Field(name, .number(UInt64(clamping: value)))
    }
    static func hex(_ name: String, _ value: some FixedWidthInteger) -> Field {
      Field(name, .hex(UInt64(truncatingIfNeeded: value)))
    }
    static func text(_ name: String, _ value: String) -> Field { Field(name, .text(value)) }
    static func fields(_ name: String, _ fields: [Field]) -> Field { Field(name, .fields(fields)) }
    static func list(_ name: String, _ values: [Value]) -> Field { Field(name, .list(values)) }
  }

  /// The C name of the ioctl or system call, or the name of a subcommand that makes no call.
  let call: String
  let fields: [Field]

  init(_ call: String, fields: [Field] = []) {
    self.call = call
    self.fields = fields
  }

  /// Returns the value of the field `name`, or of the first field when `name` is `nil`.
  func value(_ name: Substring?) -> Value? {
    guard let name else { return fields.first?.value }
    return fields.first { $0.name == name }?.value
  }

  func print(asJSON json: Bool) {
    Swift.print(json ? jsonText : text)
  }

  private var text: String {
    ([call] + fields.map { "\($0.name) \($0.value.text)" }).joined(separator: "  ")
  }

  private var jsonText: String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    let all = Value.fields([Field("call", .text(call))] + fields)
    guard let data = try? encoder.encode(all) else { return "{}" }
    return String(decoding: data, as: UTF8.self)
  }
}

extension Report.Value {
  /// The value as it is printed and as `$name` stands for it in a script line.
  var text: String {
    switch self {
    case .number(let value): String(value)
    case .hex(let value): "0x" + String(value, radix: 16)
    case .text(let text): text
    case .list(let values): "[" + values.map(\.text).joined(separator: ", ") + "]"
    case .fields(let fields):
      "{" + fields.map { "\($0.name) \($0.value.text)" }.joined(separator: ", ") + "}"
    }
  }
}

extension Report.Value: Encodable {
  private struct Key: CodingKey {
    let stringValue: String
    var intValue: Int? { nil }
    init(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
  }

  func encode(to encoder: any Encoder) throws {
    switch self {
    case .number(let value), .hex(let value): try value.encode(to: encoder)
    case .text(let text): try text.encode(to: encoder)
    case .list(let values): try values.encode(to: encoder)
    case .fields(let fields):
      var container = encoder.container(keyedBy: Key.self)
      for field in fields {
        try container.encode(field.value, forKey: Key(stringValue: field.name))
      }
    }
  }
}
