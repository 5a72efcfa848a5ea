// SPDX-License-Identifier: Apache-2.0

import Machine
import TestSupport

/// Generates machine descriptions as text from the list of keys that `machine keys` prints, so that
/// a new key takes part without a change here. Values are inside and at their bounds, and sometimes
/// beyond them.
struct MachineGenerator {
  private var random: SeededGenerator
  /// How often a key of this machine has another value than in the preset, of 100.
  private var deviation = 0

  init(seed: UInt64) { random = SeededGenerator(seed: seed) }

  /// The units of the built-in machine, as pairs of key and value.
  private static let presets: [[(key: String, value: String)]] = {
    var builtIn = MachineDescription.builtIn
    builtIn.devices = []
    var units: [[(key: String, value: String)]] = []
    for line in (try? MachineFile.write(builtIn))?.split(separator: "\n") ?? [] {
      guard line.hasPrefix("- ") || line.hasPrefix("  ") else { continue }
      if line.hasPrefix("- ") { units.append([]) }
      guard let colon = line.firstIndex(of: ":") else { continue }
      units[units.count - 1].append(
        (
          key: String(line.dropFirst(2).prefix(upTo: colon)),
          value: String(line[line.index(after: colon)...].drop { $0 == " " })
        ))
    }
    return units
  }()

  private static let keys = Dictionary(
    uniqueKeysWithValues: MachineFile.keys.map { ($0.subject, $0.keys) })

  /// Every key of a description.
  static let allKeys = Set(MachineFile.keys.flatMap { $0.keys.map(\.name) })

  private mutating func chance(_ percent: Int) -> Bool {
    Int.random(in: 0..<100, using: &random) < percent
  }

  private mutating func pick<Element>(_ elements: [Element]) -> Element {
    elements[Int.random(in: 0..<elements.count, using: &random)]
  }

  // MARK: Text

  mutating func makeText() -> String {
    deviation = pick([0, 2, 4, 8, 30])
    var text = ""
    for key in Self.keys["a machine"] ?? [] where key.name != "units" && key.name != "devices" {
      if chance(10), let value = value(of: key) { text += "\(key.name): \(value)\n" }
    }
    let units = (0..<Int.random(in: 1...3, using: &random)).map { "unit\($0)" }
    text += "units:\n"
    // Half of the machines have units of one kind only, between which domains can be shared.
    let preset = chance(50) ? pick(Self.presets) : nil
    for name in units { text += makeUnit(name, of: preset ?? pick(Self.presets)) }
    text += "devices:\n"
    var groups: [String: Int] = [:]
    for index in 0..<Int.random(in: 1...4, using: &random) {
      text += makeDevice(index, units, &groups)
    }
    return text
  }

  private mutating func makeUnit(
    _ name: String, of preset: [(key: String, value: String)]
  ) -> String {
    let kind = preset.first { $0.key == "kind" }?.value ?? ""
    var lines = ["name: \(name)", "kind: \(kind)"]
    for key in Self.keys["a unit of kind \(kind)"] ?? [] {
      let given = preset.first { $0.key == key.name }?.value
      if let value = chance(deviation) ? value(of: key) : given {
        lines.append("\(key.name): \(value)")
      }
    }
    return Self.item(lines)
  }

  private mutating func makeDevice(
    _ index: Int, _ units: [String], _ groups: inout [String: Int]
  ) -> String {
    let unit = chance(1) ? "nowhere" : pick(units)
    let group = chance(15) ? groups[unit, default: index] : chance(1) ? 0 : index
    groups[unit] = group
    var lines = [
      "address: \(address(index))", "model: pcie-ats-testdev", "unit: \(unit)", "group: \(group)",
    ]
    let named = Set(["address", "model", "unit", "group", "reserved-regions"])
    for key in Self.keys["a device"] ?? [] where !named.contains(key.name) {
      // A page request needs ATS, and only devices behind an SMMUv3 stall.
      let isLikely =
        key.name != "stalls" && (key.name != "page-requests" || lines.contains("ats: true"))
      if chance(isLikely ? 50 : 3), let value = value(of: key) {
        lines.append("\(key.name): \(value)")
      }
    }
    if chance(20) { lines.append("reserved-regions: [\(regions())]") }
    return Self.item(lines)
  }

  private mutating func address(_ index: Int) -> String {
    if chance(1) { return pick(["01:00.0", "02:01.0", "03:00.5", "0001:01:00.0", "ff:1f.7", "x"]) }
    if chance(20) { return "00:0\(index + 1).\(Int.random(in: 0...7, using: &random))" }
    if chance(20) { return "80:00.\(index < 2 ? 0 : index)" }
    return pick(["0\(index + 1):00.0", "e\(index):00.0"])
  }

  private mutating func regions() -> String {
    (0..<Int.random(in: 1...2, using: &random)).map { _ in
      let first = pick([0, 0x10_0000, 0xfee0_0000, 0xa000_0000, 1 << 40, 1 << 63] as [UInt64])
      let last = first + (chance(3) ? 0x7fe : pick([0xfff, 0xffff, 0xff_ffff, (1 << 30) - 1]))
      let kind = pick(["reserved", "msi", "direct-relaxable", "direct-relaxable", "direct"])
      return "{range: 0x\(String(first, radix: 16))-0x\(String(last, radix: 16)), kind: \(kind)}"
    }.joined(separator: ", ")
  }

  private static func item(_ lines: [String]) -> String {
    "- " + lines.joined(separator: "\n  ") + "\n"
  }

  // MARK: Values

  /// Returns a value of `key`, from the text that describes its values to users. Returns `nil` for
  /// a key whose values have another form.
  private mutating func value(of key: MachineFile.Key) -> String? {
    if key.name == "implementation", chance(80) {
      return pick(["0x4831043b", "0x4832043b", "0x4871043b", "0x4871143b"])
    }
    if let range = Self.range(key.values) { return number(range) }
    let list = "a list of "
    if key.values.hasPrefix(list) {
      let all = key.values.dropFirst(list.count).split(separator: ", ")
      return "[" + all.filter { _ in chance(50) }.joined(separator: ", ") + "]"
    }
    let choices = key.values.split(separator: ", ").map(String.init)
    guard choices.count > 1 else { return nil }
    return Int.random(in: 0..<300, using: &random) == 0 ? "neither" : pick(choices)
  }

  private static func range(_ values: String) -> ClosedRange<Int>? {
    let ends = values.split(separator: " ")
    guard ends.count == 3, ends[1] == "to", let first = Int(ends[0]), let last = Int(ends[2])
    else { return nil }
    return first...last
  }

  private mutating func number(_ range: ClosedRange<Int>) -> String {
    if chance(1) { return "\(pick([range.lowerBound - 1, range.upperBound + 1]))" }
    // Large caches only cost time.
    if range.upperBound >= 4096, chance(95) {
      return "\(pick([range.lowerBound, range.lowerBound + 1, 7, 64]))"
    }
    let bound = pick([range.lowerBound, range.upperBound])
    return "\(chance(40) ? bound : Int.random(in: range, using: &random))"
  }
}
