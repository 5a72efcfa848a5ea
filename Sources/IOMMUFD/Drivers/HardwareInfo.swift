// SPDX-License-Identifier: Apache-2.0

internal import CUAPI
internal import SystemPackage

/// The data of IOMMU_GET_HW_INFO.
package struct HardwareInfo: Sendable {
  /// IOMMU_HW_INFO_TYPE_*
  package let type: UInt32
  package let bytes: [UInt8]

  package init<Value: BitwiseCopyable>(type: UInt32, _ value: Value) {
    self.type = type
    bytes = withUnsafeBytes(of: value) { Array($0) }
  }

  /// - Parameters:
  ///   - requested: The type that the client requests. IOMMU_HW_INFO_TYPE_DEFAULT requests the type
  ///     that the unit has.
  ///   - type: The type that the unit has.
  /// - Throws: `.notSupported` when the client requests another type.
  init<Value: BitwiseCopyable>(
    requested: UInt32, type: UInt32, _ value: Value
  ) throws(Errno) {
    guard requested == IOMMU_HW_INFO_TYPE_DEFAULT.rawValue || requested == type else {
      throw .notSupported
    }
    self.init(type: type, value)
  }
}
