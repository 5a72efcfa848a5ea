// For fuzzers, who cannot guess where a mapping is: an IOVA whose low half is the number of an area, and
// whose high half is an offset into it (selftest.c: struct syz_layout).

internal import CUAPI
internal import SystemPackage
internal import UAPI

enum NumberedAreas {
  /// Of ACCESS_PAGES, ACCESS_RW and IOAS_COPY.
  static let flag = UInt32(MOCK_FLAGS_ACCESS_SYZ)

  /// 0 when there are not so many areas.
  static func iova(_ iova: UInt64, in ioas: IOAS) -> UInt64 {
    ioas.pageTable.iova(ofArea: UInt32(truncatingIfNeeded: iova), offset: iova >> 32)
  }

  /// Puts the real source into the struct, which is what the answer shows.
  /// selftest.c: iommufd_test_syz_conv_iova_id()
  static func resolve(_ command: inout UserCommand<iommu_ioas_copy>) {
    guard command.arguments.flags & flag != 0 else { return }
    command.arguments.flags &= ~flag
    let (context, arguments) = (command.context, command.arguments)
    command.arguments.src_iova = context.lock.withLock {
      guard let ioas = try? context.ioas(ObjectID(arguments.src_ioas_id)) else {
        return arguments.src_iova
      }
      return iova(arguments.src_iova, in: ioas)
    }
  }
}
