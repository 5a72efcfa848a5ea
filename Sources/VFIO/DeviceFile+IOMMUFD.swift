// The device and its iommufd: VFIO_DEVICE_BIND_IOMMUFD, ATTACH and DETACH_IOMMUFD_PT, and the end of
// the tie when the file is closed (drivers/vfio/device_cdev.c, iommufd.c).

internal import CUAPI
internal import IOMMU
internal import IOMMUFD
internal import Synchronization
internal import SystemPackage
internal import UAPI

extension DeviceFile {
  /// vfio_df_ioctl_bind_iommufd()
  func bind(_ call: DeviceCall) throws(Errno) {
    let userSize = Int(try call.client.load(UInt32.self, at: call.argument))
    guard userSize >= Ioctl.vfioDeviceBindIOMMUFD.minimumSize else { throw .invalidArgument }
    let request = try Self.loadBind(call, userSize: userSize)
    guard request.iommufd >= 0, request.flags & ~UInt32(VFIO_DEVICE_BIND_FLAG_TOKEN) == 0 else {
      throw .invalidArgument
    }

    try device.deviceSet.lock.withLock { () throws(Errno) in
      guard session == nil else { throw .invalidArgument }
      try Self.checkToken(request, call.client)
      let context = try Context.of(descriptor: request.iommufd, client: call.client)
      do throws(Errno) {
        try open(in: context, client: call.client) { id throws(Errno) in
          let offset = UInt64(MemoryLayout<vfio_device_bind_iommufd>.start(of: \.out_devid))
          try call.client.store(id.rawValue, at: call.argument &+ offset)
        }
      } catch {
        context.release()
        throw error
      }
    }
  }

  /// vfio_df_open(), and the answer: the device is given back when the client cannot be told its id.
  private func open(
    in context: Context, client: any Client, publish: (ObjectID) throws(Errno) -> Void
  ) throws(Errno) {
    // A character device is opened by one file only; another one's has it.
    guard device.session == nil else { throw .invalidArgument }
    let bound = try context.bind(device.physical)
    let opened = OpenedDevice(device)
    do throws(Errno) {
      try publish(bound.id)
    } catch {
      opened.close(device)
      bound.unbind()
      throw error
    }
    device.session = VFIODevice.Session(
      owner: ObjectIdentifier(self), context: context, bound: bound, opened: opened)
  }

  /// vfio_df_unbind_iommufd(). The device stops before its translation goes.
  func close() {
    device.deviceSet.lock.withLock {
      guard let session else { return }
      device.session = nil
      session.opened.close(device)
      session.attachments.withLock { attachments in
        for pasid in attachments.pasids.sorted() {
          session.bound.detach(pasid: VFIODevice.Session.iommufdPASID(pasid))
        }
        if attachments.isAttached { session.bound.detach() }
        attachments = .init()
      }
      session.bound.unbind()
      session.context.release()
    }
  }

  private static func loadBind(
    _ call: DeviceCall, userSize: Int
  ) throws(Errno) -> vfio_device_bind_iommufd {
    var request = vfio_device_bind_iommufd()
    try withUnsafeMutableBytes(of: &request) { buffer throws(Errno) in
      try call.client.copyStruct(from: call.argument, userSize: userSize, into: buffer)
    }
    return request
  }

  /// vfio_df_check_token(), vfio_pci_core_match_token_uuid(): our functions are neither physical nor
  /// virtual functions of SR-IOV, so a token is one too many.
  private static func checkToken(
    _ request: vfio_device_bind_iommufd, _ client: any Client
  ) throws(Errno) {
    guard request.flags & UInt32(VFIO_DEVICE_BIND_FLAG_TOKEN) != 0 else { return }
    _ = try client.load((UInt64, UInt64).self, at: request.token_uuid_ptr)
    throw .invalidArgument
  }

  /// vfio_df_ioctl_attach_pt()
  func attach(_ call: DeviceCall, _ session: VFIODevice.Session) throws(Errno) {
    typealias Arguments = vfio_device_attach_iommufd_pt
    let minimum = Ioctl.vfioDeviceAttachIOMMUFDPageTable.minimumSize
    var request: Arguments = try call.load(count: minimum)
    guard request.argsz >= minimum, request.flags & ~UInt32(VFIO_DEVICE_ATTACH_PASID) == 0 else {
      throw .invalidArgument
    }
    var pasid: UInt32?
    if request.flags & UInt32(VFIO_DEVICE_ATTACH_PASID) != 0 {
      let end = MemoryLayout.end(of: \Arguments.pasid)
      guard request.argsz >= end else { throw .invalidArgument }
      pasid = try call.client.load(UInt32.self, at: call.argument &+ UInt64(minimum))
    }
    try device.deviceSet.lock.withLock { () throws(Errno) in
      request.pt_id = try session.attach(
        ObjectID(request.pt_id), pasid: pasid, client: call.client
      ).rawValue
      do throws(Errno) {
        let offset = UInt64(MemoryLayout<Arguments>.start(of: \.pt_id))
        try call.client.store(request.pt_id, at: call.argument &+ offset)
      } catch {
        // The kernel undoes the RID's attachment here, whatever was asked for.
        session.detach(pasid: nil)
        throw error
      }
    }
  }

  /// vfio_df_ioctl_detach_pt()
  func detach(_ call: DeviceCall, _ session: VFIODevice.Session) throws(Errno) {
    typealias Arguments = vfio_device_detach_iommufd_pt
    let minimum = Ioctl.vfioDeviceDetachIOMMUFDPageTable.minimumSize
    let request: Arguments = try call.load(count: minimum)
    guard request.argsz >= minimum, request.flags & ~UInt32(VFIO_DEVICE_DETACH_PASID) == 0 else {
      throw .invalidArgument
    }
    var pasid: UInt32?
    if request.flags & UInt32(VFIO_DEVICE_DETACH_PASID) != 0 {
      let end = MemoryLayout.end(of: \Arguments.pasid)
      guard request.argsz >= end else { throw .invalidArgument }
      pasid = try call.client.load(UInt32.self, at: call.argument &+ UInt64(minimum))
    }
    device.deviceSet.lock.withLock { session.detach(pasid: pasid) }
  }
}

extension VFIODevice.Session {
  /// Which page tables the device has (struct vfio_device: iommufd_attached, pasids).
  struct Attachments: Sendable {
    var isAttached = false
    var pasids: Set<UInt32> = []
  }

  /// vfio_iommufd_physical_attach_ioas(), …_pasid_attach_ioas(). iommufd has two calls, one for the
  /// first table and one for every later one.
  /// - Returns: the id of the HWPT that is used.
  func attach(
    _ table: ObjectID, pasid: UInt32?, client: any Client
  ) throws(Errno) -> ObjectID {
    let attachments = attachments.withLock { $0 }
    let isAttached = pasid.map { attachments.pasids.contains($0) } ?? attachments.isAttached
    if let pasid, !isAttached, pasid > Int32.max { throw .noSpace }  // ida_alloc_range()
    var table = table
    if isAttached {
      try bound.replace(with: &table, pasid: Self.iommufdPASID(pasid), client: client)
    } else {
      try bound.attach(to: &table, pasid: Self.iommufdPASID(pasid), client: client)
    }
    self.attachments.withLock { attachments in
      if let pasid { attachments.pasids.insert(pasid) } else { attachments.isAttached = true }
    }
    return table
  }

  /// vfio_iommufd_physical_detach_ioas(), …_pasid_detach_ioas(): no error when there is nothing.
  func detach(pasid: UInt32?) {
    let wasAttached = attachments.withLock { attachments in
      if let pasid { return attachments.pasids.remove(pasid) != nil }
      let wasAttached = attachments.isAttached
      attachments.isAttached = false
      return wasAttached
    }
    if wasAttached { bound.detach(pasid: Self.iommufdPASID(pasid)) }
  }

  /// PASID 0 is how the kernel writes "without PASID" (IOMMU_NO_PASID), also when a client asks for it.
  static func iommufdPASID(_ pasid: UInt32?) -> PASID? {
    pasid.flatMap { $0 == 0 ? nil : PASID(rawValue: $0) }
  }
}
