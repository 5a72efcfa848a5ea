// An ioctl as text, for people who want to see what their program asks and is told: the fields of its
// struct by their C names, and what the call changed in them.
//
//   IOMMU_IOAS_MAP, {flags=0x6, ioas_id=2, user_va=0x7f3a5c000000, length=0x1000, iova=0x0} => {iova=0x10000}
//
// The structs are Swift's view of the C ones, whose fields reflection knows. Bits of unions and arrays
// are left out.

package struct IoctlDescription: Sendable {
  /// The C name of the request.
  package let name: String
  private let read: (@Sendable (UnsafeRawBufferPointer) -> [Field])?
  private let size: Int

  /// The argument is a number, or nothing.
  init(_ name: String) { (self.name, read, size) = (name, nil, 0) }

  /// - Parameter structure: what the argument points to, its own length coming first.
  init<Structure>(_ name: String, _ structure: Structure.Type) {
    self.name = name
    size = MemoryLayout<Structure>.size
    read = { bytes in
      // SAFETY: a C struct is its bytes, and there are as many as it has.
      let copy = UnsafeMutableRawPointer.allocate(
        byteCount: MemoryLayout<Structure>.size, alignment: MemoryLayout<Structure>.alignment)
      defer { copy.deallocate() }
      copy.copyMemory(from: bytes.baseAddress ?? UnsafeRawPointer(copy), byteCount: bytes.count)
      let value = copy.assumingMemoryBound(to: Structure.self).pointee
      return Mirror(reflecting: value).children.compactMap { child in
        guard let name = child.label, let value = child.value as? any FixedWidthInteger else {
          return nil
        }
        return Field(name: name, value: UInt64(truncatingIfNeeded: value))
      }
    }
  }

  fileprivate struct Field: Equatable {
    let name: String
    let value: UInt64

    /// The struct's length says nothing of the call, nor does what is reserved, while it is 0.
    var isTelling: Bool {
      name != "size" && name != "argsz" && (value != 0 || !name.hasPrefix("__"))
    }
    var text: String { name + "=" + (isCount ? "\(value)" : "0x" + String(value, radix: 16)) }

    private var isCount: Bool {
      ["id", "fd", "num", "_len", "_iovas", "_depth", "index", "count", "op"]
        .contains { name.hasSuffix($0) } || name.hasPrefix("num_")
    }
  }

  /// The struct at a moment.
  package struct Snapshot: Sendable {
    fileprivate let fields: [Field]
    package var text: String {
      "{" + fields.filter(\.isTelling).map(\.text).joined(separator: ", ") + "}"
    }

    /// What is another value now, or an empty text.
    package func changes(since before: Snapshot) -> String {
      let changed = zip(before.fields, fields).filter { $0 != $1 }.map(\.1.text)
      return changed.isEmpty ? "" : " => {" + changed.joined(separator: ", ") + "}"
    }
  }

  /// The struct as it is now, as far as it says that it goes; nil where it cannot be read.
  package func snapshot(at address: UInt64, in memory: any UserMemory) -> Snapshot? {
    guard let read, let length = try? memory.load(UInt32.self, at: address) else { return nil }
    let given = max(min(Int(length), size), MemoryLayout<UInt32>.size)
    guard let bytes = try? memory.loadArray(of: UInt8.self, given, at: address) else { return nil }
    let whole = bytes + [UInt8](repeating: 0, count: size - given)
    return whole.withUnsafeBytes { Snapshot(fields: read($0)) }
  }
}
