// SPDX-License-Identifier: Apache-2.0

// An ioctl as text: the fields of its struct by their C names, and what the call changed in them.
//
//   IOMMU_IOAS_MAP, {flags=0x6, ioas_id=2, user_va=0x7f3a5c000000, length=0x1000, iova=0x0}
//     => {iova=0x10000}
//
// The traces of both front ends print it.

/// The values that the fields of an ioctl's struct have at one moment.
package struct IoctlSnapshot: Sendable {
  private let fields: [(name: String, value: UInt64)]

  fileprivate init(_ structure: IoctlStructure, _ bytes: UnsafeRawBufferPointer) {
    fields = structure.members(bytes).map { ($0.field.name, $0.value) }
  }

  /// All fields except the struct's own size and reserved fields that are 0.
  package var text: String {
    // The first field is the struct's size; a later field can have the same name.
    let shown = fields.dropFirst().filter { name, value in
      value != 0 || !name.hasPrefix("__")
    }
    return "{" + shown.map(Self.text).joined(separator: ", ") + "}"
  }

  /// Returns the fields whose values differ from those in `before`, with their new values. The text
  /// is empty when nothing changed.
  package func changes(since before: IoctlSnapshot) -> String {
    let changed = zip(before.fields, fields).filter { $0 != $1 }.map(\.1)
    return changed.isEmpty ? "" : " => {" + changed.map(Self.text).joined(separator: ", ") + "}"
  }

  private static func text(_ name: String, _ value: UInt64) -> String {
    name + "=" + (isDecimal(name) ? "\(value)" : "0x" + String(value, radix: 16))
  }

  /// Object IDs, file descriptors and counts are decimal; flags, addresses and lengths are not.
  private static func isDecimal(_ name: String) -> Bool {
    let endings = ["id", "fd", "num", "_len", "_iovas", "_depth", "index", "count", "op"]
    return name.hasPrefix("num_") || endings.contains { name.hasSuffix($0) }
  }
}

extension Ioctl {
  /// Reads the struct at `address`. Members behind the size that the struct gives are read as 0.
  /// - Returns: `nil` when the ioctl has no struct or the struct cannot be read.
  package func snapshot(at address: UInt64, in memory: any UserMemory) -> IoctlSnapshot? {
    guard let structure, let length = try? memory.load(UInt32.self, at: address) else { return nil }
    let given = max(min(Int(length), structure.size), MemoryLayout<UInt32>.size)
    guard let bytes = try? memory.loadArray(of: UInt8.self, given, at: address) else { return nil }
    let whole = bytes + [UInt8](repeating: 0, count: structure.size - given)
    return whole.withUnsafeBytes { IoctlSnapshot(structure, $0) }
  }
}
