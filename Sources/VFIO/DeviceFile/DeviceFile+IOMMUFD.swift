// SPDX-License-Identifier: Apache-2.0

// VFIO_DEVICE_BIND_IOMMUFD, VFIO_DEVICE_ATTACH_IOMMUFD_PT and VFIO_DEVICE_DETACH_IOMMUFD_PT, and
// the unbind when the file is closed (drivers/vfio/device_cdev.c, iommufd.c).

internal import CUAPI
internal import IOMMU
internal import IOMMUFD
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

    // The client's memory is accessed without the lock, because an access may wait for the client.
    let tokenError = Self.tokenError(request, call.client)
    let id = try device.deviceSet.lock.withLock { () throws(Errno) in
      guard binding == nil else { throw .invalidArgument }
      if let tokenError { throw tokenError }
      let context = try Context.of(descriptor: request.iommufd, client: call.client)
      do throws(Errno) {
        return try open(in: context)
      } catch {
        context.release()
        throw error
      }
    }
    do throws(Errno) {
      let offset = UInt64(MemoryLayout<vfio_device_bind_iommufd>.start(of: \.out_devid))
      try call.client.store(id.rawValue, at: call.argument &+ offset)
    } catch {
      close()
      throw error
    }
  }

  /// Opens and binds the device: vfio_df_open().
  /// - Returns: The device's ID.
  private func open(in context: Context) throws(Errno) -> ObjectID {
    // Only one file of a character device can open the device. EINVAL means that another file has
    // opened it.
    guard device.binding == nil else { throw .invalidArgument }
    let boundDevice = try context.bind(device.physical)
    device.binding = DeviceBinding(
      owner: ObjectIdentifier(self), context: context, boundDevice: boundDevice,
      openedDevice: OpenedDevice(device))
    return boundDevice.id
  }

  /// vfio_df_unbind_iommufd(). The device stops its DMA before it is detached.
  func close() {
    // Ended without the lock, because a doorbell may be waiting for the client's memory.
    binding?.openedDevice.removeIOEvents()
    device.deviceSet.lock.withLock {
      guard let binding else { return }
      device.binding = nil
      binding.openedDevice.close(device)
      binding.unbind()
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

  /// vfio_df_check_token(), vfio_pci_core_match_token_uuid(): a function that is neither a physical
  /// nor a virtual function of SR-IOV refuses every token.
  private static func tokenError(
    _ request: vfio_device_bind_iommufd, _ client: any Client
  ) -> Errno? {
    guard request.flags & UInt32(VFIO_DEVICE_BIND_FLAG_TOKEN) != 0 else { return nil }
    do throws(Errno) {
      _ = try client.load((UInt64, UInt64).self, at: request.token_uuid_ptr)
      return .invalidArgument
    } catch {
      return error
    }
  }

  /// vfio_df_ioctl_attach_pt()
  func attach(_ call: DeviceCall, _ binding: DeviceBinding) throws(Errno) {
    typealias Arguments = vfio_device_attach_iommufd_pt
    let (arguments, pasid) = try Self.load(
      call, .vfioDeviceAttachIOMMUFDPageTable, flag: UInt32(VFIO_DEVICE_ATTACH_PASID),
      argsz: \Arguments.argsz, flags: \.flags, pasid: \.pasid)
    var request = arguments
    try device.deviceSet.lock.withLock { () throws(Errno) in
      request.pt_id = try binding.attach(
        ObjectID(request.pt_id), pasid: pasid, client: call.client
      ).rawValue
    }
    // Stored without the lock, because the store may wait for the client.
    do throws(Errno) {
      let offset = UInt64(MemoryLayout<Arguments>.start(of: \.pt_id))
      try call.client.store(request.pt_id, at: call.argument &+ offset)
    } catch {
      // The kernel detaches the device without PASID here, also when the call attached a PASID.
      device.deviceSet.lock.withLock { binding.detach(pasid: nil) }
      throw error
    }
  }

  /// vfio_df_ioctl_detach_pt()
  func detach(_ call: DeviceCall, _ binding: DeviceBinding) throws(Errno) {
    typealias Arguments = vfio_device_detach_iommufd_pt
    let (_, pasid) = try Self.load(
      call, .vfioDeviceDetachIOMMUFDPageTable, flag: UInt32(VFIO_DEVICE_DETACH_PASID),
      argsz: \Arguments.argsz, flags: \.flags, pasid: \.pasid)
    device.deviceSet.lock.withLock { binding.detach(pasid: pasid) }
  }

  /// Loads the struct of an attach or a detach, and its PASID when `flag` is set. The PASID follows
  /// the bytes that every version of the struct has.
  private static func load<Arguments: BitwiseCopyable>(
    _ call: DeviceCall, _ ioctl: Ioctl, flag: UInt32, argsz: KeyPath<Arguments, UInt32>,
    flags: KeyPath<Arguments, UInt32>, pasid member: KeyPath<Arguments, UInt32>
  ) throws(Errno) -> (Arguments, PASID?) {
    let minimum = ioctl.minimumSize
    let request: Arguments = try call.load(count: minimum)
    guard request[keyPath: argsz] >= minimum, request[keyPath: flags] & ~flag == 0 else {
      throw .invalidArgument
    }
    if request[keyPath: flags] & flag == 0 { return (request, nil) }
    guard request[keyPath: argsz] >= MemoryLayout.end(of: member) else { throw .invalidArgument }
    let pasid = try call.client.load(UInt32.self, at: call.argument &+ UInt64(minimum))
    return (request, PASID(rawValue: pasid))
  }
}
