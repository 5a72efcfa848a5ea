// SPDX-License-Identifier: Apache-2.0

/// The struct that the argument of an ioctl points to. Its first member, a u32, is the size that
/// the caller gives it.
///
/// Names, sizes and order of the fields are those that Swift imports from the headers of uapi/, so
/// they cannot differ from the headers. Fields inside unions and arrays are left out.
package struct IoctlStructure: Sendable {
  package struct Field: Sendable, Equatable {
    package let name: String
    package let size: Int
  }

  /// The C tag, for example `iommu_ioas_map`.
  package let name: String
  /// Bytes of today's struct, without a flexible array.
  package let size: Int
  /// Bytes of the shortest struct that is accepted.
  package let minimumSize: Int
  /// The flags of the fields that consist of flags, by the name of the field.
  package let flags: [String: [IoctlFlag]]
  /// Returns the fields with their values in the given bytes, which are as many as the struct has.
  let members: @Sendable (UnsafeRawBufferPointer) -> [(field: Field, value: UInt64)]
  private let type: ObjectIdentifier

  /// The fields in the order of the struct. Found by reflection at each call, which only traces and
  /// checks of the catalogue need.
  package var fields: [Field] {
    [UInt8](repeating: 0, count: size).withUnsafeBytes { members($0).map(\.field) }
  }

  init<Structure, Member>(
    minimumThrough member: KeyPath<Structure, Member>, flags: [String: [IoctlFlag]]
  ) {
    name = String(describing: Structure.self)
    size = MemoryLayout<Structure>.size
    minimumSize = MemoryLayout.end(of: member)
    type = ObjectIdentifier(Structure.self)
    self.flags = flags
    members = { Self.members(of: Structure.self, in: $0) }
  }

  /// Returns whether the struct is `type` in Swift.
  package func `is`<Structure>(_ type: Structure.Type) -> Bool {
    self.type == ObjectIdentifier(type)
  }

  /// Returns the members of a C struct that are integers.
  private static func members<Structure>(
    of _: Structure.Type, in bytes: UnsafeRawBufferPointer
  ) -> [(field: Field, value: UInt64)] {
    // SAFETY: every pattern of bytes is a value of a C struct, and the copy has the struct's size
    // and alignment.
    let copy = UnsafeMutableRawPointer.allocate(
      byteCount: MemoryLayout<Structure>.size, alignment: MemoryLayout<Structure>.alignment)
    defer { copy.deallocate() }
    UnsafeMutableRawBufferPointer(start: copy, count: MemoryLayout<Structure>.size)
      .copyBytes(from: bytes.prefix(MemoryLayout<Structure>.size))
    let value = copy.assumingMemoryBound(to: Structure.self).pointee
    return Mirror(reflecting: value).children.compactMap { child in
      guard let name = child.label, let value = child.value as? any FixedWidthInteger else {
        return nil
      }
      let field = Field(name: name, size: value.bitWidth / 8)
      return (field, UInt64(truncatingIfNeeded: value))
    }
  }
}

/// One flag of a flags field: a bit, or a set of bits, with its name in C.
package struct IoctlFlag: Sendable, Equatable {
  package let name: String
  package let value: UInt64

  init(_ name: String, _ value: some RawRepresentable<UInt32>) {
    (self.name, self.value) = (name, UInt64(value.rawValue))
  }

  init(_ name: String, _ value: Int32) {
    (self.name, self.value) = (name, UInt64(UInt32(bitPattern: value)))
  }
}
