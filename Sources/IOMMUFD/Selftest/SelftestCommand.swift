// IOMMU_TEST_CMD: one command with many operations, one file per family of them.

internal import CUAPI
internal import SystemPackage
internal import UAPI

typealias TestCommand = UserCommand<iommu_test_cmd>

enum SelftestCommand {
  static let row = Operation(.test, minimumThrough: \iommu_test_cmd.last, execute)

  /// iommufd_test()
  private static func execute(_ command: inout TestCommand) throws(Errno) {
    guard let selftest = command.context.selftest else { throw .notSupported }
    switch Int(command.arguments.op) {
    case IOMMU_TEST_OP_ACCESS_PAGES: try AccessTests.pin(&command)
    case IOMMU_TEST_OP_ACCESS_REPLACE_IOAS: try AccessTests.replaceIOAS(&command)
    case IOMMU_TEST_OP_ACCESS_RW: try AccessTests.copy(&command)
    case IOMMU_TEST_OP_ADD_RESERVED: try MappingTests.addReserved(&command)
    case IOMMU_TEST_OP_CREATE_ACCESS: try AccessTests.create(&command)
    case IOMMU_TEST_OP_DESTROY_ACCESS_PAGES: try AccessTests.unpin(&command)
    case IOMMU_TEST_OP_DEV_CHECK_CACHE: try CacheTests.checkDeviceCache(&command, selftest)
    case IOMMU_TEST_OP_DIRTY: try DirtyTests.markDirty(&command)
    case IOMMU_TEST_OP_DMABUF_GET: try DMABufferTests.make(&command)
    case IOMMU_TEST_OP_DMABUF_REVOKE: try DMABufferTests.revoke(&command)
    case IOMMU_TEST_OP_MD_CHECK_IOTLB: try CacheTests.checkIOTLB(&command)
    case IOMMU_TEST_OP_MD_CHECK_MAP: try MappingTests.checkMap(&command)
    case IOMMU_TEST_OP_MD_CHECK_REFS: try MappingTests.checkReferences(&command)
    case IOMMU_TEST_OP_MOCK_DOMAIN: try MockDeviceTests.makeDevice(&command, selftest, flags: [])
    case IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS:
      let flags = command.arguments.mock_domain_flags.dev_flags
      try MockDeviceTests.makeDevice(&command, selftest, flags: .init(rawValue: flags))
    case IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE: try MockDeviceTests.replace(&command)
    case IOMMU_TEST_OP_PASID_ATTACH: try MockDeviceTests.attachPASID(&command)
    case IOMMU_TEST_OP_PASID_CHECK_HWPT: try MockDeviceTests.checkPASID(&command)
    case IOMMU_TEST_OP_PASID_DETACH: try MockDeviceTests.detachPASID(&command)
    case IOMMU_TEST_OP_PASID_REPLACE: try MockDeviceTests.replacePASID(&command)
    case IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT:
      try MappingTests.setMemoryLimit(&command, selftest)
    case IOMMU_TEST_OP_TRIGGER_IOPF: try EventTests.requestPage(&command, selftest)
    case IOMMU_TEST_OP_TRIGGER_VEVENT: try EventTests.reportEvent(&command, selftest)
    default: throw .notSupported
    }
  }
}

extension UserCommand<iommu_test_cmd> {
  /// The paging HWPT that the operation is about, with its mock domain. The lock is held.
  /// selftest.c: get_md_pagetable()
  func mockHWPT() throws(Errno) -> (hwpt: PagingHWPT, domain: MockPagingDomain) {
    let hwpt = try context.objects.lookUp(ObjectID(arguments.id), as: PagingHWPT.self)
    guard let domain = hwpt.domain as? MockPagingDomain else { throw .invalidArgument }
    return (hwpt, domain)
  }
}
