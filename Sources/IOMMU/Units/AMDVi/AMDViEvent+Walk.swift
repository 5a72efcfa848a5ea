// SPDX-License-Identifier: Apache-2.0

// The event of each way in which a walk can fail (§2.5.3, §2.5.5).

extension AMDViEvent {
  /// - Parameters:
  ///   - address: the address that the walk was to translate.
  ///   - entryAddress: the address of the last entry that the walk read.
  static func walk(
    _ fault: WalkFault, _ space: AddressSpace, at address: UInt64, _ entryAddress: PhysicalAddress
  ) -> AMDViEvent {
    switch fault {
    case .inaccessible, .unwritable: .pageTableError(space, at: entryAddress)
    case .absent, .inputTooWide, .accessFlagClear: .absent(space, at: address)
    case .denied: .denied(space, at: address)
    case .reserved, .outputTooWide: .reserved(space, at: address)
    }
  }
}
