// SPDX-License-Identifier: Apache-2.0

/// The number by which a client names an object of one open /dev/iommu. No object has number 0.
package struct ObjectID: RawRepresentable, Hashable, Comparable, Sendable {
  package let rawValue: UInt32
  package init(rawValue: UInt32) { self.rawValue = rawValue }
  package init(_ rawValue: UInt32) { self.rawValue = rawValue }
  package static func < (a: ObjectID, b: ObjectID) -> Bool { a.rawValue < b.rawValue }
}
