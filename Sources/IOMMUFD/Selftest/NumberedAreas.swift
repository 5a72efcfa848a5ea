// SPDX-License-Identifier: Apache-2.0

internal import CUAPI
internal import IOMMU
internal import SystemPackage
internal import UAPI

/// IOVAs for fuzzers, which cannot guess where a mapping is: the low half is the number of an area,
/// the high half an offset in the area (selftest.c: struct syz_layout).
enum NumberedAreas {
  /// The flag of ACCESS_PAGES, ACCESS_RW and IOMMU_IOAS_COPY.
  static let flag = UInt32(MOCK_FLAGS_ACCESS_SYZ)

  /// Returns the IOVA that a numbered one stands for; 0 without such an area.
  static func iova(_ iova: UInt64, in ioas: IOAS) -> IOVA {
    ioas.pageTable.iova(ofArea: UInt32(truncatingIfNeeded: iova), offset: iova >> 32)
  }

  /// Replaces a numbered source by the IOVA that it stands for, also for the answer to the client.
  /// selftest.c: iommufd_test_syz_conv_iova_id()
  static func resolve(_ command: inout UserCommand<iommu_ioas_copy>) {
    guard command.arguments.flags & flag != 0 else { return }
    command.arguments.flags &= ~flag
    let (context, arguments) = (command.context, command.arguments)
    command.arguments.src_iova = context.lock.withLock {
      guard let ioas = try? context.ioas(ObjectID(arguments.src_ioas_id)) else {
        return arguments.src_iova
      }
      return iova(arguments.src_iova, in: ioas).rawValue
    }
  }
}
